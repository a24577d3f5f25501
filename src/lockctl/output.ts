/** What commands print: tables for people, JSON for programs, colour only on terminals. */
import { styleText } from 'node:util';
import type { ByteString } from '../../xdr/codec.ts';
import { AcquireFlag } from '../../xdr/programs/lock.ts';
import {
  FileState,
  HolderKind,
  type HolderInfo,
  type HoldInfo,
  Identity,
  type LockInfo,
  type OwnerInfo,
  type RefusalInfo,
} from '../../xdr/programs/inquire.ts';
import { printable } from '../inquire/printable.ts';

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** Colours text for standard output, unless that is no terminal or the environment does not want it. */
export function style(format: Style, text: string): string {
  // styleText looks at the stream, NO_COLOR and FORCE_COLOR itself.
  return styleText(format, text, { stream: process.stdout });
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Rows in columns, headings above. Nothing but blanks between them, so that other programs can cut them apart. */
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

/** Columns that a terminal uses: two for the wide characters of East Asia and for pictures, none for combining ones. */
function widthOf(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  let width = 0;
  for (const character of text.replaceAll(/\x1b\[\d+m/g, '')) {
    if (/\p{M}/u.test(character)) continue;
    width += /[ᄀ-ᅟ⺀-〾ぁ-㏿㐀-䶿一-鿿ꀀ-꓏가-힣豈-﫿︰-﹯＀-｠￠-￦]|\p{Emoji_Presentation}/u.test(character) ? 2 : 1;
  }
  return width;
}

/** A name to look at. */
export function name(bytes: ByteString): string {
  return printable(bytes);
}

/** Milliseconds since 1970 as ISO time in UTC, or `-` when unknown. */
export function time(milliseconds: bigint): string {
  return milliseconds === 0n ? 'unknown' : new Date(Number(milliseconds)).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** How long ago, in the largest unit that fits. */
export function age(milliseconds: bigint, now = Date.now()): string {
  if (milliseconds === 0n) return 'unknown';
  return duration(now - Number(milliseconds));
}

export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes}min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}h` : `${Math.floor(hours / 24)}d`;
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
};

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

/** `web (pid 4557)`, with a question mark where it is known from the process only. */
export function owner({ pid, name: vm, identity: known }: OwnerInfo): string {
  if (vm === '') return `unknown (pid ${pid})`;
  return `${name(vm)}${known === Identity.GUESSED ? '?' : ''} (pid ${pid})`;
}

export function holder({ kind, owner: who, owners }: HolderInfo): string {
  if (kind === HolderKind.ELSEWHERE) return 'another host, or a process with an OFD lock';
  if (kind === HolderKind.PROCESS) return `another process: ${owner(who)}`;
  return `${owner(who)}${owners > 1 ? ` and ${owners - 1} more` : ''}`;
}

/** A name in JSON: as text and, where it is no valid UTF-8, its bytes as well. */
function nameFields(key: string, bytes: ByteString): Record<string, string> {
  if (/^[\0-\x7f]*$/.test(bytes)) return { [key]: bytes };
  const buffer = Buffer.from(bytes, 'latin1');
  const text = buffer.toString('utf8');
  return Buffer.from(text, 'utf8').equals(buffer)
    ? { [key]: text }
    : { [key]: text, [`${key}Bytes`]: buffer.toString('hex') };
}

/** An id that the daemon does not know is null in JSON. */
function known(value: bigint): number | null {
  return value === 0n ? null : Number(value);
}

export function ownerJson({ pid, id, name: vm, uuid, identity: source }: OwnerInfo): Record<string, unknown> {
  if (source === Identity.UNKNOWN) return { pid, name: null, uuid: null, id: null, identity: 'unknown' };
  return {
    pid,
    ...nameFields('name', vm),
    uuid,
    id: id === 0 ? null : id,
    identity: source === Identity.REGISTERED ? 'registered' : 'process',
  };
}

export function holdJson({ owner: who, since, client }: HoldInfo): Record<string, unknown> {
  return {
    ...ownerJson(who),
    since: since === 0n ? null : new Date(Number(since)).toISOString(),
    client: known(client),
  };
}

export function lockJson(lock: LockInfo): Record<string, unknown> {
  return {
    ...nameFields('lockspace', lock.lockspace),
    ...nameFields('name', lock.name),
    ...nameFields('path', lock.path),
    mode: mode(lock),
    autocreate: (lock.flags & AcquireFlag.AUTOCREATE) !== 0,
    device: Number(lock.device),
    // Inodes of some file systems are larger than a number of JSON's readers.
    inode: lock.inode <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(lock.inode) : String(lock.inode),
    ...(lock.file === FileState.NOT_LOOKED ? {} : { file: fileState(lock.file) }),
    ...(lock.holds.length === lock.holdCount ? {} : { firstOwner: lock.firstHold, ownerCount: lock.holdCount }),
    owners: lock.holds.map(holdJson),
  };
}

export function refusalJson(refusal: RefusalInfo): Record<string, unknown> {
  const { holder: who } = refusal;
  return {
    sequence: Number(refusal.sequence),
    time: new Date(Number(refusal.time)).toISOString(),
    ...nameFields('lockspace', refusal.lockspace),
    ...nameFields('name', refusal.name),
    ...nameFields('path', refusal.path),
    mode: mode(refusal),
    code: refusal.code,
    ...nameFields('reason', refusal.reason),
    owner: ownerJson(refusal.owner),
    client: known(refusal.client),
    holder:
      who === null
        ? null
        : {
            kind: ['owner', 'process', 'elsewhere'][who.kind] ?? 'elsewhere',
            owners: who.owners,
            ...ownerJson(who.owner),
          },
  };
}

/** JSON that shows: controls escaped beyond what JSON itself demands, so that a terminal is safe of it, too. */
export function json(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replaceAll(
    /[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    escapeUnit,
  );
}

function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
