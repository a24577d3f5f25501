/** The output of commands: tables for people, JSON for programs, colours on terminals only. */
import { writeSync } from 'node:fs';
import { styleText } from 'node:util';
import type { ByteString } from '../../../xdr/codec.ts';
import { AcquireFlag } from '../../../xdr/programs/lock.ts';
import {
  FileState,
  HolderKind,
  Holding,
  type HolderInfo,
  type HolderNote,
  type HoldInfo,
  Identity,
  type LockInfo,
  type LockState,
  type OwnerInfo,
  type RefusalInfo,
} from '../../../xdr/programs/inquire.ts';
import { printable } from '../../log/printable.ts';
import { exitProcess } from '../../posix/exit.ts';
import { isPipe } from '../../posix/pipe.ts';
import { posix } from '../../posix/posix.ts';
import { CommandError, Exit } from './exit.ts';

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

const STDOUT = 1;
const STDERR = 2;

/** Formats text for standard output, if that is a terminal and the environment does not forbid it. */
export function style(format: Style, text: string): string {
  // Checked first, because Node.js takes a millisecond to make a stream of a pipe.
  if (process.env.FORCE_COLOR === undefined && !posix.isTerminal(STDOUT)) return text;
  // styleText itself checks the stream, NO_COLOR and FORCE_COLOR.
  return styleText(format, text, { stream: process.stdout });
}

/** Milliseconds between two attempts to write to a slow reader. */
const RETRY_MS = 1;

/** Prints one or more lines, and returns when they are written. @throws CommandError when that fails */
export function print(text: string): void {
  printText(`${text}\n`);
}

/** As {@link print}, without a newline at the end. */
export function printText(text: string): void {
  try {
    writeAll(STDOUT, text);
  } catch (error) {
    throw explainWrite(error);
  }
}

/** Prints a message to standard error. Errors are ignored. */
export function complain(text: string): void {
  printError(`virt-lockctl: ${text}\n`);
}

export function printError(text: string): void {
  try {
    writeAll(STDERR, text);
  } catch {
    // The disk is full, or the reader has gone.
  }
}

/**
 * Prints without blocking on a pipe: unread output stays in memory. The daemon drops a list whose next page is not requested
 * for long, so a pager must not delay the requests.
 */
export class Printer {
  // A file never blocks for long, and Node.js's stream of a file loses output on a full disk.
  private readonly isPipe = isPipe(STDOUT);

  constructor() {
    // Ends the process when the reader closes the pipe. done() reports all other errors.
    if (this.isPipe) process.stdout.on('error', explainWrite);
  }

  /** @throws CommandError when it cannot be written, unless standard output is a pipe */
  print(text: string): void {
    if (this.isPipe) process.stdout.write(text);
    else printText(text);
  }

  /** Waits until all is written. @throws CommandError when that fails */
  async done(): Promise<void> {
    if (!this.isPipe) return;
    await new Promise<void>((resolve, reject) => {
      process.stdout.write('', (error) => {
        if (error) reject(explainWrite(error));
        else resolve();
      });
    });
  }
}

function explainWrite(error: unknown): CommandError {
  const { code, message } = error as NodeJS.ErrnoException;
  // A reader that closes the pipe early (head, less) is no error.
  if (code === 'EPIPE') exitProcess(Exit.OK);
  return new CommandError(Exit.NO, `cannot write to standard output: ${message}`);
}

function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text, 'utf8');
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      // Another process has made the descriptor non-blocking, and the reader is slow.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }
}

/** Rows in columns below headings. Only blanks separate columns, so that other programs can split them. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, column) =>
    rows.reduce((width, row) => Math.max(width, widthOf(row[column] ?? '')), heading.length),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column === cells.length - 1 ? cell : pad(cell, widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return [style('bold', line(headings)), ...rows.map(line)].join('\n');
}

function pad(cell: string, width: number): string {
  return cell + ' '.repeat(Math.max(0, width - widthOf(cell)));
}

/** The columns that a terminal uses: two for a wide character of East Asia or an emoji, none for a combining one. */
function widthOf(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  let width = 0;
  for (const character of text.replaceAll(/\x1b\[\d+m/g, '')) {
    if (/\p{M}/u.test(character)) continue;
    width += /[ᄀ-ᅟ⺀-〾ぁ-㏿㐀-䶿一-鿿ꀀ-꓏가-힣豈-﫿︰-﹯＀-｠￠-￦]|\p{Emoji_Presentation}/u.test(character) ? 2 : 1;
  }
  return width;
}

/** A name with escapes for unprintable bytes. */
export function name(bytes: ByteString): string {
  return printable(bytes);
}

/** Milliseconds since 1970 as ISO time in UTC; 0 is unknown. */
export function time(milliseconds: number): string {
  return milliseconds === 0 ? 'unknown' : new Date(milliseconds).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** The time since `milliseconds`, in one unit. */
export function age(milliseconds: number, now = Date.now()): string {
  if (milliseconds === 0) return 'unknown';
  return duration(now - milliseconds);
}

export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes}min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}h` : `${Math.floor(hours / 24)}d`;
}

/** `an exclusive lock` */
export function lockOf(lock: { readonly flags: number }): string {
  return mode(lock) === 'shared' ? 'a shared lock' : 'an exclusive lock';
}

export function mode({ flags }: { readonly flags: number }): string {
  return (flags & AcquireFlag.SHARED) === 0 ? 'exclusive' : 'shared';
}

const FILE_STATES: Readonly<Record<number, string>> = {
  [FileState.NOT_LOOKED]: '',
  [FileState.SAME]: 'same',
  [FileState.REPLACED]: 'replaced',
  [FileState.GONE]: 'gone',
  [FileState.UNREADABLE]: 'unreadable',
  [FileState.BROKEN]: 'broken',
  [FileState.NO_ANSWER]: 'no answer',
  [FileState.IN_ETCD]: 'in etcd',
};

/** Whether nothing is wrong with the file or the directory. */
export function isSound(state: number): boolean {
  return state === FileState.SAME || state === FileState.IN_ETCD;
}

export function fileState(state: number): string {
  return FILE_STATES[state] ?? `state ${state}`;
}

const IDENTITIES: Readonly<Record<number, string>> = {
  [Identity.REGISTERED]: 'registered',
  [Identity.GUESSED]: 'from its command line',
  [Identity.UNKNOWN]: 'unknown',
};

export function identity(value: number): string {
  return IDENTITIES[value] ?? 'unknown';
}

/** `web (pid 4557)`, with a question mark if the name comes from the command line of the process. */
export function owner({ pid, name: vm, identity: known }: OwnerInfo, isDead = false): string {
  const who = vm === '' ? 'unknown' : `${name(vm)}${known === Identity.GUESSED ? '?' : ''}`;
  return `${who} (pid ${pid}${isDead ? ', dead' : ''})`;
}

/** A word for the shell, quoted where that is needed. */
export function shellWord(bytes: ByteString): string {
  const text = decode(bytes);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A refusal, with what the holder had noted in the file. */
export interface NotedRefusal extends RefusalInfo {
  readonly notes: readonly HolderNote[];
}

/** `db (pid 4557) on host node7` */
export function notedOwner({ host, name: vm, pid }: HolderNote): string {
  return `${vm === '' ? 'unknown' : name(vm)} (pid ${pid}) on host ${name(host)}`;
}

/** The holders that have noted themselves; undefined when none has. */
export function notedOwners(notes: readonly HolderNote[]): string | undefined {
  const owners = notes.map((note) => `${notedOwner(note)}, since ${time(note.since)}`);
  return owners.length === 0 ? undefined : owners.join('; ');
}

export function noteJson({ host, hostUuid, name: vm, uuid, pid, shared, since, owners }: HolderNote): Json {
  const object: Json = {};
  addName(object, 'host', host);
  object.hostUuid = hostUuid;
  addName(object, 'name', vm);
  object.uuid = uuid;
  object.pid = pid;
  object.mode = shared ? 'shared' : 'exclusive';
  object.since = since === 0 ? null : new Date(since).toISOString();
  object.owners = owners;
  return object;
}

export function holder({ kind, owner: who, owners }: HolderInfo, notes: readonly HolderNote[] = []): string {
  const noted = notedOwners(notes);
  if (noted !== undefined) return noted;
  if (kind === HolderKind.ELSEWHERE) return 'another host, or a process with an OFD lock';
  if (kind === HolderKind.PROCESS) return `another process: ${owner(who)}`;
  return `${owner(who)}${owners > 1 ? ` and ${owners - 1} more` : ''}`;
}

/** `2 locks`, `1 lock`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

/** Why an acquire was refused. */
export function cause({ holder: by, reason, notes }: Pick<NotedRefusal, 'holder' | 'reason' | 'notes'>): string {
  return by === null ? name(reason) : `held by ${holder(by, notes)}`;
}

type Json = Record<string, unknown>;

/** Adds a name to an object as text and, if it is not valid UTF-8, also its bytes in hexadecimal. */
function addName(to: Json, key: string, bytes: ByteString): void {
  const text = decode(bytes);
  to[key] = text;
  if (text === bytes) return;
  const buffer = Buffer.from(bytes, 'latin1');
  if (!Buffer.from(text, 'utf8').equals(buffer)) to[`${key}Bytes`] = buffer.toString('hex');
}

/** Bytes as text. For sentences: bytes that are not UTF-8 are lost. */
export function decode(bytes: ByteString): string {
  return ASCII.test(bytes) ? bytes : Buffer.from(bytes, 'latin1').toString('utf8');
}

/** As {@link addName}, in a new object to be spread into another. */
export function nameJson(key: string, bytes: ByteString): Json {
  const object: Json = {};
  addName(object, key, bytes);
  return object;
}

const ASCII = /^[ -~]*$/;

function addOwner(to: Json, { pid, id, name: vm, uuid, identity: source }: OwnerInfo): Json {
  to.pid = pid;
  if (source === Identity.UNKNOWN) to.name = to.uuid = to.id = null;
  else {
    addName(to, 'name', vm);
    to.uuid = uuid;
    to.id = id === 0 ? null : id;
  }
  to.identity = source === Identity.REGISTERED ? 'registered' : source === Identity.GUESSED ? 'process' : 'unknown';
  return to;
}

export function ownerJson(owner: OwnerInfo): Json {
  return addOwner({}, owner);
}

/** Values that the daemon does not know are null. */
export function holdJson({ owner: who, since, client }: HoldInfo): Json {
  const hold = addOwner({}, who);
  hold.since = since === 0 ? null : new Date(since).toISOString();
  hold.client = client === 0 ? null : client;
  return hold;
}

/** @param hangsSince since when its storage does not answer; 0: it does */
export function lockJson(lock: LockInfo, hangsSince = 0): Json {
  const object: Json = {};
  addName(object, 'lockspace', lock.lockspace);
  addName(object, 'name', lock.name);
  addName(object, 'path', lock.path);
  object.mode = mode(lock);
  object.autocreate = (lock.flags & AcquireFlag.AUTOCREATE) !== 0;
  object.device = lock.device;
  // Some file systems have inode numbers that many JSON parsers would round.
  object.inode = lock.inode <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(lock.inode) : String(lock.inode);
  if (lock.file !== FileState.NOT_LOOKED) object.file = fileState(lock.file);
  if (hangsSince !== 0) object.hangsSince = new Date(hangsSince).toISOString();
  if (lock.holds.length !== lock.holdCount) {
    object.firstOwner = lock.firstHold;
    object.ownerCount = lock.holdCount;
  }
  object.owners = lock.holds.map(holdJson);
  return object;
}

export function refusalJson({ holder: who, notes, ...refusal }: NotedRefusal): Json {
  const object: Json = { sequence: refusal.sequence, time: new Date(refusal.time).toISOString() };
  addName(object, 'lockspace', refusal.lockspace);
  addName(object, 'name', refusal.name);
  addName(object, 'path', refusal.path);
  object.mode = mode(refusal);
  object.code = refusal.code;
  addName(object, 'reason', refusal.reason);
  object.owner = ownerJson(refusal.owner);
  object.client = refusal.client === 0 ? null : refusal.client;
  object.holder =
    who === null
      ? null
      : addOwner({ kind: ['owner', 'process', 'elsewhere'][who.kind] ?? 'elsewhere', owners: who.owners }, who.owner);
  if (notes.length > 0) object.hosts = notes.map(noteJson);
  return object;
}

const PLAIN = /^[ -~\n]*$/;
/** C1 controls, and Unicode's format characters, tags and line separators. JSON escapes other controls itself. */
const UNSAFE = /[\x7f-\x9f\p{Cf}\p{Zl}\p{Zp}\u{e0000}-\u{e007f}]/gu;

/** JSON that is safe on a terminal: characters that could mislead it are escaped, too. */
export function json(value: unknown, indent?: number): string {
  const text = JSON.stringify(value, null, indent);
  // Most text is plain, and the first use of UNSAFE takes milliseconds.
  return PLAIN.test(text) ? text : text.replaceAll(UNSAFE, escapeUnits);
}

function escapeUnits(character: string): string {
  return character.replaceAll(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

const HOLDINGS: Readonly<Record<number, string>> = {
  [Holding.NOT_ASKED]: 'not-asked',
  [Holding.HELD]: 'held',
  [Holding.UNKNOWN]: 'unknown',
  [Holding.TAKEN]: 'taken',
  [Holding.GONE]: 'gone',
  [Holding.REGAINED]: 'regained',
};

/** The word for a value of Holding, in JSON. */
export function holdingText(holding: number): string {
  return HOLDINGS[holding] ?? String(holding);
}

/** What has become of a lock that was lost. */
export function lossCause({ holding, pid, confirmed }: Pick<LockState, 'holding' | 'pid' | 'confirmed'>): string {
  const last = confirmed === 0 ? '' : `, last confirmed ${time(confirmed)}`;
  if (holding === Holding.REGAINED)
    return `it was lost and is held again: another host may have written in between${last}`;
  if (holding === Holding.GONE) return `it is lost, and nobody else is known to have it${last}`;
  return `another process or host has it${pid === 0 ? '' : ` (process ${pid} to the file system)`}${last}`;
}
