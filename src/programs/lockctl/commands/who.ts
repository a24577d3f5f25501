/** `who PATH`: who holds a disk, on this host or another one. */
import { realpathSync } from 'node:fs';
import type { Command } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import type { LockFilter, LockInfo } from '../../../../xdr/programs/inquire.ts';
import { type Context, toAbsolute, toBytes, toPath } from '../context.ts';
import type { Caller, InquireClient } from '../inquire-client.ts';
import { CommandError, Exit } from '../exit.ts';
import { describeProcess, fileId, findObstacle, findOutsiders, type Outsider } from '../kernel/holders.ts';
import { notEmpty } from '../not-empty.ts';
import { identity, json, lockJson, lockOf, name, nameJson, owner, print, style, time } from '../output.ts';

export interface Findings {
  /** The daemon's locks that guard the file; null when the daemon did not answer. */
  readonly locks: LockInfo[] | null;
  /** Why the daemon did not answer. */
  readonly silence: CommandError | null;
  /** A lock of the daemon that is not a guest's, such as the one on its pid file. */
  readonly daemonItself: Outsider | null;
  /** Other processes of this host with a lock on the first byte. */
  readonly outsiders: Outsider[];
  /** Another lock is in the way, whose owner is not known. */
  readonly elsewhere: boolean;
  /** Why the kernel could not be asked: the system's code. */
  readonly failure: string | null;
}

/** The names under which libvirt may know the file: as given, and with links resolved. */
export function namesOf(given: ByteString): ByteString[] {
  const names = new Set([toAbsolute(given)]);
  try {
    // realpathSync itself would decode the path.
    names.add(realpathSync.native(toPath(given), 'latin1'));
  } catch {
    // The file need not exist: an indirect lockspace has only the disk's name.
  }
  return [...names];
}

/** The daemon's locks that guard a file of these names and match the filter, without duplicates. */
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
  // If no lock is in the way, do not read /proc/locks: for milliseconds the kernel then grants no lock to any process.
  if (lock === null && failure === null) return answer;
  const file = fileId(resolved);
  const daemonPid = locks === null || file === null ? 0 : (await daemon.status()).pid;
  const found = file === null ? [] : findOutsiders(file);
  // A lock may be too new to be in the table.
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
    .description('show who holds a file: a guest of this daemon, another process, or another host')
    .argument('<path>', "a disk's image, or a lock file", notEmpty('the path'))
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nFinds a disk in the default lockspace by path and inode, and in indirect lockspaces by the SHA-256 of its path.\nExit status 1: not held.',
    )
    .action(async (given: string, options: { json?: true }) => {
      process.exitCode = await who(context.daemon(), toBytes(given), options.json === true);
    });
}

/** Returns the exit status. */
export async function who(daemon: InquireClient<Caller>, given: ByteString, asJson: boolean): Promise<number> {
  const findings = await investigate(daemon, given);
  print(asJson ? json(findingsJson(given, findings), 2) : describe(given, findings).join('\n'));
  return isHeld(findings) ? Exit.OK : (findings.silence?.exit ?? Exit.NO);
}

export function isHeld({ locks, daemonItself, outsiders, elsewhere }: Findings): boolean {
  return (locks?.length ?? 0) > 0 || daemonItself !== null || outsiders.length > 0 || elsewhere;
}

function findingsJson(given: ByteString, findings: Findings): Record<string, unknown> {
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

/** Findings as lines for people. */
export function describe(given: ByteString, findings: Findings): string[] {
  const { locks, silence, daemonItself, outsiders, elsewhere, failure } = findings;
  const lines = (locks ?? []).flatMap(describeLock);
  if (silence !== null) lines.push(style('yellow', silence.message));
  if (daemonItself !== null) lines.push(`The daemon itself: ${describeOutsider(daemonItself)}`);
  lines.push(
    ...outsiders.map((one) => (silence === null ? 'Not a guest of this daemon: ' : '') + describeOutsider(one)),
  );
  if (elsewhere) {
    lines.push('Another host holds a lock, or a process of this host holds an OFD lock that this user cannot see.');
  }
  if (!isHeld(findings)) lines.push(nobody(given, silence !== null, failure));
  return lines;
}

function nobody(given: ByteString, silent: boolean, failure: string | null): string {
  const file = name(given);
  if (failure === 'ENOENT') return `No known lock on ${file}, and there is no such file.`;
  if (failure !== null)
    return `This daemon does not hold ${file}. Other locks are unknown: cannot open it (${failure}).`;
  return silent ? `No process of this host has a visible lock on ${file}.` : `No lock on ${file}.`;
}

function describeLock(lock: LockInfo): string[] {
  const where = lock.lockspace === '' ? '' : ` as ${name(lock.name)} in lockspace ${name(lock.lockspace)}`;
  return lock.holds.flatMap(({ owner: who, since, client }) => [
    `${style('bold', owner(who))} holds ${lockOf(lock)}${where}`,
    `  uuid ${who.uuid}, since ${time(since)}, through client ${client === 0 ? 'unknown' : String(client)}, name ${identity(who.identity)}`,
  ]);
}

function describeOutsider({ pid, kind, access, program, guest }: Outsider): string {
  const what = program === '' ? 'unknown program' : name(program);
  const vm = guest === '' ? '' : `, guest ${name(guest)}`;
  const lock = `${kind === 'OFD' ? 'an OFD' : 'a POSIX'} ${access.toLowerCase()} lock`;
  return `${style('bold', `pid ${pid}`)} (${what}${vm}) holds ${lock}.`;
}
