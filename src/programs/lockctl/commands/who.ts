/** `who PATH`: who holds a disk, here or elsewhere. */
import { realpathSync } from 'node:fs';
import type { Command } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import type { LockFilter, LockInfo } from '../../../../xdr/programs/inquire.ts';
import { type Context, toAbsolute, toBytes, toPath } from '../context.ts';
import type { Caller, InquireClient } from '../inquire-client.ts';
import { CommandError, Exit } from '../exit.ts';
import { describeProcess, fileId, findObstacle, findOutsiders, type Outsider } from '../kernel/holders.ts';
import { notEmpty } from '../not-empty.ts';
import { identity, json, lockJson, mode, name, nameJson, owner, print, style, time } from '../output.ts';

/** What is known about who has a file. */
export interface Findings {
  /** Locks of the daemon that guard it; null when the daemon could not be asked. */
  readonly locks: LockInfo[] | null;
  /** Why it could not be asked. */
  readonly silence: CommandError | null;
  /** A lock of the daemon that it does not list: the one on its pid file, say. */
  readonly daemonItself: Outsider | null;
  /** Other processes of this host with a lock on its first byte. */
  readonly outsiders: Outsider[];
  /** Somebody's lock is in the way whom nothing of the above explains. */
  readonly elsewhere: boolean;
  /** Why the kernel could not be asked, if so. */
  readonly failure: string | null;
}

/** Every name under which libvirt may know the file: as given, and with its links resolved. */
export function namesOf(given: ByteString): ByteString[] {
  const names = new Set([toAbsolute(given)]);
  try {
    // The other realpath would decode it.
    names.add(realpathSync.native(toPath(given), 'latin1'));
  } catch {
    // It need not exist: an indirect lockspace knows the disk's name only.
  }
  return [...names];
}

/** The daemon's locks that guard a file of these names and fit the filter, each once. */
export async function locksOf(
  daemon: InquireClient<Caller>,
  names: readonly ByteString[],
  filter: Partial<LockFilter> = {},
): Promise<LockInfo[]> {
  const found = await Promise.all(names.map(async (path) => daemon.locks({ ...filter, path }, true)));
  return [...new Map(found.flat().map((lock) => [`${lock.lockspace}\0${lock.name}`, lock])).values()];
}

export async function investigate(daemon: InquireClient<Caller>, given: ByteString): Promise<Findings> {
  const names = namesOf(given);
  let locks: LockInfo[] | null = [];
  let silence: CommandError | null = null;
  try {
    locks = await locksOf(daemon, names);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    locks = null;
    silence = error;
  }
  const answer = { locks, silence, daemonItself: null, outsiders: [], elsewhere: false, failure: null };
  if (locks !== null && locks.length > 0) return answer;
  const resolved = names.at(-1) ?? given;
  const { lock, failure } = findObstacle(resolved, false);
  // Where nothing is in the way the table is not read: the kernel lets nobody lock anything for milliseconds meanwhile.
  if (lock === null && failure === null) return answer;
  const file = fileId(resolved);
  const daemonPid = locks === null || file === null ? 0 : (await daemon.status()).pid;
  const found = file === null ? [] : findOutsiders(file);
  // What F_GETLK names and the table does not show, as it may when the lock just came.
  if (lock !== null && lock.pid > 0 && !found.some(({ pid }) => pid === lock.pid)) {
    found.push({ pid: lock.pid, kind: 'POSIX', access: lock.access, ...describeProcess(lock.pid) });
  }
  return {
    locks,
    silence,
    daemonItself: found.find(({ pid }) => pid === daemonPid) ?? null,
    outsiders: found.filter(({ pid }) => pid !== daemonPid),
    elsewhere: lock !== null && found.length === 0,
    failure,
  };
}

export function addWho(program: Command, context: Context): void {
  program
    .command('who')
    .description('say who holds a file: a guest of this daemon, another process, or another host')
    .argument('<path>', "a disk's image, or the lock file itself", notEmpty('the path'))
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      '\nFinds the disk in the default lockspace by path and inode, and in lockspaces of hashed names by its SHA-256.\nExit status 1: nobody holds it.',
    )
    .action(async (given: string, options: { json?: true }) => {
      process.exitCode = await who(context.daemon(), toBytes(given), options.json === true);
    });
}

/** The command itself; returns the exit status. */
export async function who(daemon: InquireClient<Caller>, given: ByteString, asJson: boolean): Promise<number> {
  const findings = await investigate(daemon, given);
  print(asJson ? json(findingsJson(given, findings), 2) : describe(given, findings).join('\n'));
  return isHeld(findings) ? Exit.OK : (findings.silence?.exit ?? Exit.NO);
}

export function isHeld({ locks, daemonItself, outsiders, elsewhere }: Findings): boolean {
  return (locks?.length ?? 0) > 0 || daemonItself !== null || outsiders.length > 0 || elsewhere;
}

export function findingsJson(given: ByteString, findings: Findings): Record<string, unknown> {
  const { locks, silence, daemonItself, outsiders, elsewhere, failure } = findings;
  return {
    ...nameJson('path', given),
    held: isHeld(findings),
    locks: locks?.map(lockJson) ?? null,
    daemonItself: daemonItself !== null,
    otherProcesses: outsiders.map(({ pid, kind, access, program, guest }) => ({
      pid,
      kind,
      access: access.toLowerCase(),
      ...nameJson('program', program),
      ...(guest === '' ? {} : nameJson('vm', guest)),
    })),
    elsewhere,
    ...(silence === null ? {} : { daemon: silence.message }),
    ...(failure === null ? {} : { kernel: failure }),
  };
}

/** The same as lines for people. */
export function describe(given: ByteString, findings: Findings): string[] {
  const { locks, silence, daemonItself, outsiders, elsewhere, failure } = findings;
  const lines = (locks ?? []).flatMap(describeLock);
  if (silence !== null) lines.push(style('yellow', silence.message));
  if (daemonItself !== null) lines.push(`The daemon itself: ${describeOutsider(daemonItself)}`);
  lines.push(...outsiders.map((one) => (silence === null ? 'Not this daemon, but ' : '') + describeOutsider(one)));
  if (elsewhere) {
    lines.push(
      'It is locked by another host, or by a process of this one with an OFD lock that cannot be seen from here.',
    );
  }
  if (!isHeld(findings)) lines.push(nobody(given, silence !== null, failure));
  return lines;
}

function nobody(given: ByteString, silent: boolean, failure: string | null): string {
  const file = name(given);
  if (failure === 'ENOENT') return `Nobody known holds ${file}, and there is no such file.`;
  if (failure !== null)
    return `This daemon does not hold ${file}; others cannot be seen: it cannot be opened (${failure}).`;
  return silent ? `No process is seen to lock ${file}.` : `Nobody holds ${file}.`;
}

function describeLock(lock: LockInfo): string[] {
  const where = lock.lockspace === '' ? '' : ` as ${name(lock.name)} in lockspace ${name(lock.lockspace)}`;
  return lock.holds.flatMap(({ owner: who, since, client }) => [
    `${style('bold', owner(who))} holds it, ${mode(lock)}${where}`,
    `  uuid ${who.uuid}, since ${time(since)}, through client ${client === 0 ? 'unknown' : String(client)}, name ${identity(who.identity)}`,
  ]);
}

function describeOutsider({ pid, kind, access, program, guest }: Outsider): string {
  const what = program === '' ? 'a process that cannot be looked at' : name(program);
  const vm = guest === '' ? '' : `, guest ${name(guest)}`;
  const lock = `${kind === 'OFD' ? 'an OFD' : 'a POSIX'} ${access.toLowerCase()} lock`;
  return `${style('bold', `pid ${pid}`)} (${what}${vm}) has ${lock} on it.`;
}
