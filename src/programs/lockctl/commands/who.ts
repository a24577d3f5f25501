/** `who PATH`: who holds a disk, on this host or another one. */
import type { Command } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import {
  type EtcdLock,
  FileState,
  type HolderNote,
  type LockFilter,
  type LockInfo,
} from '../../../../xdr/programs/inquire.ts';
import { type Context, toAbsolute, toBytes, withoutLinks } from '../context.ts';
import { daemonProcess } from '../daemon-process.ts';
import { mountNote } from '../daemon-view.ts';
import { DeadOwners } from '../dead-owners.ts';
import type { Caller, InquireClient } from '../inquire-client.ts';
import { deviceNames, deviceNote } from '../device-names.ts';
import { describeEtcdLock, etcdLockJson, isKeptInEtcd } from '../etcd-locks.ts';
import { CommandError, Exit } from '../exit.ts';
import { Looker, NO_ANSWER } from '../kernel/looker.ts';
import { isStorageHelper } from '../../../proc/processes.ts';
import { mayHang } from '../../../proc/route.ts';
import { describeProcess, fileId, findObstacle, findOutsiders, isHere, type Outsider } from '../kernel/holders.ts';
import { notesIn } from '../kernel/holder-notes.ts';
import { notEmpty } from '../not-empty.ts';
import { freedBy, unreportedAt } from '../remote-locks.ts';
import {
  holdJson,
  identity,
  json,
  lockJson,
  lockOf,
  name,
  nameJson,
  notedOwner,
  noteJson,
  owner,
  print,
  style,
  time,
} from '../output.ts';
import { sha256 } from '../sha256.ts';

export interface Findings {
  /** The daemon's locks that guard the file; null when the daemon did not answer. */
  readonly locks: LockInfo[] | null;
  /** Those of their owners that are dead. */
  readonly dead: DeadOwners | null;
  /** Why the daemon did not answer. */
  readonly silence: CommandError | null;
  /** A lock of the daemon that is not a guest's, such as the one on its pid file. */
  readonly daemonItself: Outsider | null;
  /** Other processes of this host with a lock on the first byte. */
  readonly outsiders: Outsider[];
  /** Another lock is in the way, whose owner this host does not know. */
  readonly elsewhere: boolean;
  /** What other daemons, mostly on other hosts, have noted in the lock file. */
  readonly notes: HolderNote[];
  /** The resource in a lockspace that guards the file, if the locks of others were found there. */
  readonly guard: Guard | null;
  /** Locks in etcd that guard the file, of any host. */
  readonly inEtcd: readonly EtcdLock[];
  /** Why the kernel could not be asked: the system's code. */
  readonly failure: string | null;
  /** What was not looked for. */
  readonly unsearched: string | null;
  /** Why the daemon may see another file at the path. */
  readonly view: string | null;
}

/** A resource that may guard a file, and its own file. */
export interface Guard {
  readonly lockspace: ByteString;
  readonly name: ByteString;
  readonly file: ByteString;
}

/** The names under which libvirt may know the file: as given, and with links resolved. */
export async function namesOf(given: ByteString): Promise<ByteString[]> {
  const path = toAbsolute(given);
  // The file need not exist: an indirect lockspace has only the disk's name.
  return (await new Looker().answers(path)) ? [...new Set([path, withoutLinks(given)])] : [path];
}

/** The daemon's locks that guard a file of these names and match the filter, without duplicates. */
export async function locksOf(
  daemon: InquireClient<Caller>,
  names: readonly ByteString[],
  filter: Partial<LockFilter> = {},
): Promise<LockInfo[]> {
  const byPath = names.map(async (path) => daemon.locks({ ...filter, path }, true));
  const byDevice = new Set(names.filter((path) => !mayHang(path)).flatMap((path) => deviceNames(path).names));
  const byName = Array.from(byDevice, async (resource) => daemon.locks({ ...filter, resource }, true));
  const found = await Promise.all([...byPath, ...byName]);
  // The daemon does not look for such a file, and finds it by its name alone.
  const [path] = names.filter((name) => mayHang(name));
  const file = path === undefined ? null : await new Looker().find(path);
  if (file !== null && file !== 'no answer') {
    const all = await daemon.locks(filter, true);
    found.push(all.filter(({ device, inode }) => device === file.device && inode === file.inode));
  }
  return [...new Map(found.flat().map((lock) => [`${lock.lockspace}\0${lock.name}`, lock])).values()];
}

export async function investigate(daemon: InquireClient<Caller>, given: ByteString): Promise<Findings> {
  const names = await namesOf(given);
  let locks: LockInfo[] | null = [];
  let silence: CommandError | null = null;
  try {
    locks = await locksOf(daemon, names);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    locks = null;
    silence = error;
  }
  const owners = locks?.flatMap(({ holds }) => holds.map(({ owner: who }) => who.pid)) ?? [];
  const dead = locks === null ? null : await DeadOwners.ask(daemon, owners);
  const known = { ...NO_LOCK, locks, dead, silence, guard: null, unsearched: null };
  if (locks !== null) {
    const { inEtcd, unsearched } = await locksInEtcd(daemon, names);
    if (locks.length > 0 || inEtcd.length > 0) return { ...known, inEtcd, unsearched };
    if (unsearched !== null) return { ...known, ...(await lookAt(daemon, names.at(-1) ?? given, true)), unsearched };
  }
  const resolved = names.at(-1) ?? given;
  const unsearched = deviceNote(resolved, locks !== null) ?? null;
  const found = { ...known, ...(await lookAt(daemon, resolved, locks !== null)), unsearched };
  if (locks === null || isHeld(found)) return found;
  for (const guard of await guardsOf(daemon, names)) {
    const beside = await lookAt(daemon, guard.file, true);
    if (beside.elsewhere || beside.outsiders.length > 0) return { ...known, ...beside, guard };
  }
  return found;
}

type Sight = Pick<Findings, 'daemonItself' | 'outsiders' | 'elsewhere' | 'notes' | 'inEtcd' | 'failure' | 'view'>;

const NO_LOCK: Sight = {
  daemonItself: null,
  outsiders: [],
  elsewhere: false,
  notes: [],
  inEtcd: [],
  failure: null,
  view: null,
};

/** The locks in etcd that guard a file of these names, of any host. */
async function locksInEtcd(
  daemon: InquireClient<Caller>,
  names: readonly ByteString[],
): Promise<Pick<Findings, 'inEtcd' | 'unsearched'>> {
  const etcd = await daemon.etcd();
  if (etcd === null) return { inEtcd: [], unsearched: null };
  const isKept = (directory: ByteString): boolean => isKeptInEtcd(etcd, directory);
  const files = (await guardsOf(daemon, names)).filter(({ lockspace }) => isKept(lockspace)).map(({ file }) => file);
  const found: EtcdLock[] = [];
  try {
    for (const path of new Set([...names.filter(isKept), ...files])) found.push(...(await daemon.etcdLocks(path)));
    return { inEtcd: found, unsearched: null };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { inEtcd: found, unsearched: `Locks of other hosts in etcd are not known: ${error.message}` };
  }
}

/** Who has locked a file that the daemon does not hold. */
async function lookAt(daemon: InquireClient<Caller>, file: ByteString, answers: boolean): Promise<Sight> {
  if (!(await new Looker().answers(file))) return { ...NO_LOCK, failure: NO_ANSWER };
  const { lock, failure } = findObstacle(file, false);
  // If no lock is in the way, do not read /proc/locks: for milliseconds the kernel then grants no lock to any process.
  const daemonHere = answers ? daemonProcess(daemon.target, 0) : null;
  const view = daemonHere === null ? null : (mountNote(daemonHere) ?? null);
  if (lock === null && failure === null) return { ...NO_LOCK, view };
  const id = fileId(file);
  const isOurs = answers && id !== null ? await processesOf(daemon) : (): boolean => false;
  const found = id === null ? [] : findOutsiders(id);
  if (id !== null && lock !== null && !found.some(({ pid }) => pid === lock.pid) && isHere(lock, file, id)) {
    found.push({ pid: lock.pid, kind: 'POSIX', access: lock.access, ...describeProcess(lock.pid) });
  }
  return {
    daemonItself: found.find(isOurs) ?? null,
    outsiders: found.filter((one) => !isOurs(one)),
    elsewhere: lock !== null && found.length === 0,
    notes: lock === null ? [] : notesIn(file),
    inEtcd: [],
    failure,
    view,
  };
}

/** The resources of an indirect lockspace that would guard a disk of these names. */
export async function guardsOf(daemon: InquireClient<Caller>, names: readonly ByteString[]): Promise<Guard[]> {
  const directories = (await daemon.lockspaces()).map(({ directory }) => directory).filter((one) => one !== '');
  if (directories.length === 0) return [];
  const resources = names.flatMap((one) => [sha256(one), ...(mayHang(one) ? [] : deviceNames(one).names)]);
  return directories.flatMap((lockspace) =>
    resources.map((resource) => ({ lockspace, name: resource, file: `${lockspace}/${resource}` })),
  );
}

/** Whether a process is the daemon, or a helper that has locks in place of it. */
async function processesOf(daemon: InquireClient<Caller>): Promise<(one: Outsider) => boolean> {
  const [{ pid: daemonPid }, storages] = [await daemon.status(), await daemon.storages()];
  return ({ pid }) => pid === daemonPid || (isStorageHelper(pid) && storages.some((storage) => storage.pid === pid));
}

export function addWho(program: Command, context: Context): void {
  program
    .command('who')
    .description('show who holds a file: a guest of this daemon, another process, or another host')
    .argument('<path>', "a disk's image, or a lock file", notEmpty('the path'))
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nFinds a disk in the default lockspace by path and inode, and in indirect lockspaces by the SHA-256 of its path,\nthe UUID of its logical volume or its SCSI id.\nExit status 1: not held.',
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

export function isHeld({ locks, daemonItself, outsiders, elsewhere, inEtcd }: Findings): boolean {
  const isHere = (locks?.length ?? 0) > 0 || daemonItself !== null || outsiders.length > 0;
  return isHere || elsewhere || inEtcd.length > 0;
}

function findingsJson(given: ByteString, findings: Findings): Record<string, unknown> {
  const { locks, dead, silence, daemonItself, outsiders, elsewhere, notes, guard, failure, unsearched, view } =
    findings;
  return {
    ...nameJson('path', given),
    held: isHeld(findings),
    locks: locks?.map((lock) => lockWithDeadJson(lock, dead)) ?? null,
    daemonItself: daemonItself !== null,
    otherProcesses: outsiders.map(({ pid, kind, access, program, guest }) => ({
      pid,
      kind,
      access: access.toLowerCase(),
      ...nameJson('program', program),
      ...(guest === '' ? {} : nameJson('vm', guest)),
    })),
    elsewhere,
    ...(notes.length === 0 ? {} : { hosts: notes.map(noteJson) }),
    ...(findings.inEtcd.length === 0 ? {} : { etcd: findings.inEtcd.map(etcdLockJson) }),
    ...(guard === null
      ? {}
      : { guard: { ...nameJson('lockspace', guard.lockspace), ...nameJson('name', guard.name) } }),
    ...(silence === null ? {} : { daemon: silence.message }),
    ...(failure === null ? {} : { kernel: failure }),
    ...(unsearched === null ? {} : { unsearched }),
    ...(view === null ? {} : { view }),
  };
}

function lockWithDeadJson(lock: LockInfo, dead: DeadOwners | null): Record<string, unknown> {
  const owners = lock.holds.map((hold) => ({ ...holdJson(hold), dead: dead?.has(hold.owner) ?? null }));
  return { ...lockJson(lock), owners };
}

/** Findings as lines for people. */
export function describe(given: ByteString, findings: Findings): string[] {
  const { locks, dead, silence, daemonItself, outsiders, elsewhere, notes, guard, failure, unsearched, view } =
    findings;
  const lines = (locks ?? []).flatMap((lock) => describeLock(lock, dead));
  lines.push(...findings.inEtcd.flatMap((lock) => describeEtcdLock(lock, ` as ${name(lock.path)}`)));
  if (silence !== null) lines.push(style('yellow', silence.message));
  if (daemonItself !== null) lines.push(`The daemon itself: ${describeOutsider(daemonItself)}`);
  lines.push(
    ...outsiders.map((one) => (silence === null ? 'Not a guest of this daemon: ' : '') + describeOutsider(one)),
  );
  const where = guard === null ? '' : ` as ${name(guard.name)} in lockspace ${name(guard.lockspace)}`;
  lines.push(...notes.flatMap((note) => describeNote(note, where)));
  if (elsewhere) {
    if (notes.length === 0)
      lines.push(
        `Another host holds a lock${where}, or a process of this host holds an OFD lock that this user cannot see.`,
      );
    const how = freedBy(guard?.file ?? withoutLinks(given));
    if (how !== undefined) lines.push(how);
  }
  if (!isHeld(findings)) {
    lines.push(nobody(given, silence !== null, failure));
    const unreported = failure === null ? unreportedAt(withoutLinks(given)) : undefined;
    if (unreported !== undefined) lines.push(unreported);
  }
  if (unsearched !== null) lines.push(style('yellow', unsearched));
  if (view !== null) lines.push(style('yellow', view));
  return lines;
}

function nobody(given: ByteString, silent: boolean, failure: string | null): string {
  const file = name(given);
  if (failure === 'ENOENT') return `No known lock on ${file}, and there is no such file.`;
  if (failure === NO_ANSWER)
    return `This daemon does not hold ${file} by that name. Other locks are unknown: its storage does not answer.`;
  if (failure !== null)
    return `This daemon does not hold ${file}. Other locks are unknown: cannot open it (${failure}).`;
  return silent ? `No process of this host has a visible lock on ${file}.` : `No lock on ${file}.`;
}

function describeLock(lock: LockInfo, dead: DeadOwners | null): string[] {
  const where = lock.lockspace === '' ? '' : ` as ${name(lock.name)} in lockspace ${name(lock.lockspace)}`;
  const lines = lock.holds.flatMap(({ owner: who, since, client }) => {
    const isDead = dead?.has(who) === true;
    return [
      `${style('bold', owner(who, isDead))} holds ${lockOf(lock)}${where}`,
      `  uuid ${who.uuid}, since ${time(since)}, through client ${client === 0 ? 'unknown' : String(client)}, name ${identity(who.identity)}`,
      ...(isDead
        ? [`  ${style('yellow', "its process has ended: 'virt-lockctl release --dead' releases the lock")}`]
        : []),
    ];
  });
  const exchanged = EXCHANGED[lock.file];
  return exchanged === undefined ? lines : [...lines, `  ${style('yellow', exchanged)}`];
}

function describeNote(note: HolderNote, where: string): string[] {
  const { uuid, shared, since, owners, hostUuid } = note;
  const more = owners > 1 ? `, and ${owners - 1} more there` : '';
  const host = hostUuid === null ? '' : `, host's uuid ${hostUuid}`;
  return [
    `${style('bold', notedOwner(note))} holds ${shared ? 'a shared' : 'an exclusive'} lock${where}`,
    `  uuid ${uuid}, since ${time(since)}${more}${host}: as its daemon has noted in the lock file`,
  ];
}

const EXCHANGED: Readonly<Record<number, string>> = {
  [FileState.REPLACED]:
    'the file at its path was exchanged: the lock is on the old file, and does not guard the new one',
  [FileState.GONE]: 'the file is gone from its path: the lock does not guard a new file there',
};

function describeOutsider({ pid, kind, access, program, guest }: Outsider): string {
  const what = program === '' ? 'unknown program' : name(program);
  const vm = guest === '' ? '' : `, guest ${name(guest)}`;
  const lock = `${kind === 'OFD' ? 'an OFD' : 'a POSIX'} ${access.toLowerCase()} lock`;
  return `${style('bold', `pid ${pid}`)} (${what}${vm}) holds ${lock}.`;
}
