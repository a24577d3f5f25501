/**
 * Is this host safe? Compares the running QEMUs with what is locked, the daemon's locks with the kernel, and their owners with the
 * running processes. `health`, `status`, the metrics and the page have their verdict from here.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { ByteString } from '../../../../xdr/codec.ts';
import { OwnerEnding, OwnerLife, type OwnerState, type StatusInfo } from '../../../../xdr/programs/inquire.ts';
import { startTimeOf } from '../../../proc/identity.ts';
import { startOf } from '../../../proc/processes.ts';
import { checkLocks } from '../commands/check.ts';
import { daemonProcess } from '../daemon-process.ts';
import { CommandError, Exit } from '../exit.ts';
import type { InquireClient } from '../inquire-client.ts';
import { count, name, owner, shellWord, time } from '../output.ts';
import type { Target } from '../target.ts';
import { addEtcd } from './etcd.ts';
import { Findings, type Group, type Health, type Kind, verdictOf } from './findings.ts';
import { type Disk, findGuests, type Guest, type Lease } from './guests.ts';
import { type Guard, guardOf, Guards, guardsOfProcess, isFor } from './guards.ts';
import { lastDeathText, survivalText } from './survival.ts';

/**
 * @param silence why the daemon does not answer inquiries, if that is known: it is not asked again
 * @throws CommandError when the daemon may not be asked; not when it is down or libvirt's
 */
export async function assess(daemon: InquireClient, silence?: CommandError): Promise<Health> {
  const first = new Findings();
  const asked = { daemon, silence };
  const health = await look(asked, first);
  return first.isDoubtful ? look(asked, new Findings(first)) : health;
}

interface Asked {
  readonly daemon: InquireClient;
  /** A daemon that has not answered once is not asked again: that may take long. */
  silence: CommandError | undefined;
}

async function look(asked: Asked, findings: Findings): Promise<Health> {
  const { daemon } = asked;
  const guests = findGuests(runDirectoriesOf(daemon.target));
  let subject: Subject;
  try {
    if (asked.silence !== undefined) throw asked.silence;
    subject = await examineOwn(daemon, findings);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    asked.silence = error;
    subject = examineOther(daemon.target, error, findings);
  }
  compareGuests(guests, subject, daemon.target, findings);
  const groups = findings.list();
  const verdict = verdictOf(groups);
  const running = guests.filter(({ state }) => state !== undefined).length;
  const { kind, locks } = subject;
  return {
    verdict,
    summary: summaryOf(subject, running, groups),
    daemon: kind,
    locks,
    guests: running,
    findings: groups,
  };
}

/** The daemon, as far as it can be seen. */
interface Subject {
  readonly kind: Health['daemon'];
  readonly locks: number | null;
  /** Null where what it has locked is not known. */
  readonly guards: Guards | null;
  /** The directories of its lockspaces; null where it does not say. */
  readonly lockspaces: ReadonlySet<ByteString> | null;
  /** When its process started, in clock ticks since boot; neither null nor undefined where that is known. */
  readonly startTime: number | null | undefined;
  /** Locks that the kernel confirms. */
  readonly confirmed: number;
}

async function examineOwn(daemon: InquireClient, findings: Findings): Promise<Subject> {
  const [status, counters] = [await daemon.status(), await daemon.counters()];
  const guards: Guard[] = [];
  const pid = daemonProcess(daemon.target, status.pid);
  const report = await checkLocks(daemon, pid, (lock, open) => guards.push(guardOf(lock, open)));
  const owners = await daemon.owners();
  const isOwners = ({ kind }: { readonly kind: Kind }): boolean => kind === 'dead-owner';
  addLockFindings(
    { ...report, findings: report.findings.filter((one) => owners === null || !isOwners(one)) },
    findings,
  );
  for (const state of owners ?? []) addOwner(state, findings);
  if (pid === null && report.locks > 0) {
    const text = 'the daemon is in another pid namespace: its locks are not compared with those of the kernel';
    findings.add('unseen', { text }, 'Run the tool in the pid namespace of the daemon.');
  }
  for (const warning of status.warnings) findings.add('daemon-warning', { text: name(warning) });
  addSurvival(status, counters, findings);
  await addEtcd(daemon, findings);
  return {
    kind: 'own',
    locks: report.locks,
    guards: new Guards(guards),
    lockspaces: new Set((await daemon.lockspaces()).map(({ directory }) => directory)),
    startTime: pid === null ? undefined : startTimeOf(pid),
    confirmed: report.locks - report.unlisted,
  };
}

const EXCHANGED =
  'The lock guards the old file alone. Put that back at its path; or, for a lease or a lock file, have libvirt take the lock on the new one (virsh suspend, virsh resume); or stop the guest.';

/** What an operator can do about a lock, by the kind of what is wrong with it. */
const LOCK_ADVICE: Readonly<Partial<Record<string, string>>> = {
  'no-kernel-lock':
    'Pause the guest and resume it: libvirt takes the lock again, or is refused if another owner has it.',
  'lost-lock':
    'Stop the guest here, or the one on the other host (virt-lockctl who names it), and check the image. Then find out why this host was cut off from its storage.',
  'regained-lock':
    'Find out whether a guest ran on another host in between. If so, check the image. The finding goes when the guest gives up the lock (virsh suspend, virsh resume).',
  'unconfirmed-lock': 'See whether its storage answers.',
  'shared-lock': 'Find the other process that shares the file (virt-lockctl who), and end it.',
  'replaced-file': EXCHANGED,
  'gone-file': EXCHANGED,
  'broken-descriptor': 'Stop the guest, and report this: it is a defect of the daemon.',
  'unreadable-file': 'See whether its storage answers.',
};

function addLockFindings(
  { findings: found, unlisted, unlistedTypes }: Awaited<ReturnType<typeof checkLocks>>,
  findings: Findings,
): void {
  for (const { kind, path: file, text } of found)
    findings.add(kind, { text: `${name(file)}: ${text}`, path: file }, LOCK_ADVICE[kind]);
  if (unlisted === 0) return;
  const text = `${count(unlisted, 'lock')} in ${unlistedTypes.join(', ')}, which has the only record of them`;
  findings.add('unlisted-locks', { text });
}

function addOwner({ owner: who, holds, ending, life }: OwnerState, findings: Findings): void {
  const item = { pid: who.pid, vm: who.name };
  const held = count(holds, 'lock');
  if (ending === OwnerEnding.BEGUN || ending === OwnerEnding.RELEASE) return;
  if (life === OwnerLife.DEAD || life === OwnerLife.ABSENT) {
    const isProven = life === OwnerLife.DEAD;
    const doubt = isProven ? '' : ', unless its pid is of another pid namespace, which a C daemon did not hand on';
    findings.add(
      'dead-owner',
      { ...item, text: `${owner(who)} is dead and holds ${held}${doubt}` },
      'Have the daemon release what a dead owner holds. It proves that the owner is dead, and asks you.',
      `virt-lockctl release --dead${isProven ? '' : ' --local'}`,
    );
  } else if (ending === OwnerEnding.UNKNOWN) {
    const text = `${owner(who)}: its ${held} ${holds === 1 ? 'does' : 'do'} not end with the guest, which has no connection of its own`;
    findings.add(
      'detached-owner',
      { ...item, text },
      'Pause the guest and resume it: libvirt takes the locks again, and the daemon then watches the process.',
      ...(who.name === '' ? [] : [renew(who.name)]),
    );
  }
}

function addSurvival({ locks }: StatusInfo, counters: ReadonlyMap<string, number>, findings: Findings): void {
  const deaths = counters.get('deaths');
  if (deaths === undefined) return;
  if (deaths > 0) {
    const text = `${count(deaths, 'death')} of the daemon${lastDeathText(counters)}; the next one took over the locks`;
    findings.add('death', { text });
  }
  if (locks > 0 && (counters.get('mortalLocks') ?? 0) + (counters.get('storeMissing') ?? 0) > 0)
    findings.add('mortal-locks', { text: survivalText(locks, counters) });
}

/**
 * A daemon that does not answer inquiries, seen from outside: libvirt's, or one that hangs and keeps its locks.
 *
 * @throws CommandError when this user may not ask
 */
function examineOther(target: Target, error: CommandError, findings: Findings): Subject {
  const isC = error.exit === Exit.UNSUPPORTED;
  if (!isC && error.exit !== Exit.DOWN) throw error;
  if (isC) {
    const seen = 'its locks are seen from outside, in /proc: whose they are is not known';
    findings.add('c-daemon', { text: `${seen}. 'virt-lockctl swap --to node' replaces it live` });
  } else {
    const [text = ''] = error.message.split('\n');
    const advice = 'Start it. Then run this again: guests do not get their locks back by themselves.';
    findings.add('daemon-down', { text }, advice);
  }
  const kind = isC ? 'libvirt' : 'none';
  const pid = daemonProcess(target, 0);
  try {
    if (pid === null && isC) throw new Error(`no process of this host has locked ${target.pidFile}`);
    const guards = pid === null ? [] : guardsOfProcess(pid, target.pidFile);
    const [locks, startTime] = pid === null ? [null, undefined] : [guards.length, startTimeOf(pid)];
    return { kind, locks, guards: new Guards(guards), lockspaces: null, startTime, confirmed: guards.length };
  } catch (failure) {
    findings.add('unseen', { text: `the daemon's process cannot be looked into: ${(failure as Error).message}` });
    return { kind, locks: null, guards: null, lockspaces: null, startTime: undefined, confirmed: 0 };
  }
}

/** libvirt gives up a guest's locks while it is paused. */
const WITHOUT_LOCKS: ReadonlySet<string> = new Set(['paused', 'shutoff', 'crashed']);

function compareGuests(guests: readonly Guest[], subject: Subject, target: Target, findings: Findings): void {
  const libvirt = configurationOf(target);
  let older = 0;
  for (const guest of guests) {
    if (guest.disks === null) {
      findings.add('unseen', { text: `${describe(guest)}: its open files cannot be read`, pid: guest.pid });
      continue;
    }
    if (subject.guards === null || (guest.state !== undefined && WITHOUT_LOCKS.has(guest.state))) continue;
    const { guards, lockspaces, startTime } = subject;
    const lost = guest.leases.filter((lease) => !guards.holdsLease(guest, lease));
    const unguarded = withoutGuard(guest, guest.disks, guards);
    const renewal = renewalOf(guest, libvirt, lockspaces);
    for (const { disk, holders } of unguarded) addUnguarded(guest, disk, holders, libvirt, renewal, findings);
    for (const lease of lost) addLostLease(guest, lease, libvirt, renewal, findings);
    const started = startTimeOf(guest.pid) ?? Infinity;
    if (unguarded.length + lost.length > 0 && started < (startTime ?? 0)) older++;
  }
  if (older > 0) {
    const since = time(startOf(subject.startTime ?? 0));
    const text = `the daemon has started at ${since}, after ${count(older, 'guest')} without a lock: their locks ended with a daemon before it`;
    findings.add('death', { text });
  }
}

/** The disks that are not locked for this guest, and the pids of the owners for which they are locked instead. */
function withoutGuard(
  guest: Guest,
  disks: readonly Disk[],
  guards: Guards,
): { readonly disk: Disk; readonly holders: readonly number[] }[] {
  const used = new Set<Guard>();
  const found: { disk: Disk; holders: number[] }[] = [];
  for (const disk of disks) {
    const on = guards.of(disk);
    const own = on.filter(({ owners }) => isFor(guest.pid, owners));
    for (const guard of own) used.add(guard);
    if (own.length === 0) found.push({ disk, holders: on.flatMap(({ owners }) => owners ?? []) });
  }
  // By a logical volume's UUID, a SCSI id, or a path with links: a lock of this guest that is no other disk's guards one of these.
  const spare = guards.indirectOf(guest).filter((guard) => !used.has(guard)).length;
  return found.slice(spare);
}

function addUnguarded(
  guest: Guest,
  { path: file }: Disk,
  holders: readonly number[],
  libvirt: LibvirtConfiguration,
  renewal: readonly string[],
  findings: Findings,
): void {
  const item = { path: file, pid: guest.pid, ...(guest.name === '' ? {} : { vm: guest.name }) };
  const others = holders.length === 0 ? '' : `, which is locked for pid ${[...new Set(holders)].join(', ')}`;
  if (guest.state === undefined) {
    const text = `${describe(guest)} writes to ${name(file)}${others}`;
    findings.add(
      'unmanaged-qemu',
      { ...item, text },
      'libvirt did not start it, so nothing takes locks for it. End it, or start the guest by libvirt.',
    );
    return;
  }
  const text = `${describe(guest)} runs without a lock on ${name(file)}${others}`;
  if (libvirt.whyNoDisks !== null) {
    findings.add('unguarded-disk', { ...item, text }, libvirt.whyNoDisks);
  } else if (others !== '') {
    findings.add('unguarded-disk', { ...item, text }, 'Stop one of the two at once, and check the image.');
  } else {
    findings.add('unguarded-disk', { ...item, text }, RENEW, ...renewal);
  }
}

const RENEW =
  'Have libvirt take the locks again, which pauses the guest for a moment. The guest stays paused if another owner has the disk by then.';

function addLostLease(
  guest: Guest,
  { lockspace, key }: Lease,
  { whyNoLeases }: LibvirtConfiguration,
  renewal: readonly string[],
  findings: Findings,
): void {
  const file = path.join(lockspace, key);
  const text = `${describe(guest)} runs without its lease ${name(file)}`;
  const item = { path: file, pid: guest.pid, vm: guest.name, text };
  if (whyNoLeases === null) findings.add('unguarded-lease', item, RENEW, ...renewal);
  else findings.add('unguarded-lease', item, whyNoLeases);
}

/** The commands that have libvirt take a guest's locks again: a daemon that has died without a store has forgotten its lockspaces, too. */
function renewalOf(
  { name: vm, leases }: Guest,
  { lockspaces }: LibvirtConfiguration,
  known: Subject['lockspaces'],
): string[] {
  const needed = new Set([...lockspaces, ...leases.map(({ lockspace }) => lockspace)]);
  const missing = [...needed].filter((directory) => known?.has(directory) !== true);
  return [...missing.map((directory) => `virt-lockctl lockspace create ${shellWord(directory)}`), renew(vm)];
}

function renew(guest: ByteString): string {
  const word = shellWord(guest);
  return `virsh suspend ${word} && virsh resume ${word}`;
}

function describe({ name: vm, pid }: Guest): string {
  return vm === '' ? `QEMU (pid ${pid})` : `guest ${name(vm)} (pid ${pid})`;
}

/** Where libvirt's driver for QEMU records the guests that it has started. */
function runDirectoriesOf({ socket }: Target): string[] {
  const run = path.dirname(socket);
  return [path.join(run, 'qemu'), path.join(run, 'qemu/run')];
}

interface LibvirtConfiguration {
  /** Directories of lockspaces for disks. */
  readonly lockspaces: readonly ByteString[];
  /** Why libvirt takes no locks on disks, or no leases, and what to do; null where it does, as far as is known. */
  readonly whyNoDisks: string | null;
  readonly whyNoLeases: string | null;
}

/** Of qemu-lockd.conf: each is a directory. */
const LOCKSPACE_SETTINGS = ['file_lockspace_dir', 'lvm_lockspace_dir', 'scsi_lockspace_dir'] as const;

function configurationOf({ socket }: Target): LibvirtConfiguration {
  const isSystem = path.dirname(socket).startsWith('/run/libvirt');
  const home = process.env.XDG_CONFIG_HOME ?? path.join(process.env.HOME ?? '/', '.config');
  const directory = isSystem ? '/etc/libvirt' : path.join(home, 'libvirt');
  const lockd = path.join(directory, 'qemu-lockd.conf');
  const whyNoLeases = whyNoManager(path.join(directory, 'qemu.conf'));
  const isManual = settingOf(lockd, 'auto_disk_leases') === '0';
  return {
    lockspaces: LOCKSPACE_SETTINGS.map((key) => settingOf(lockd, key) ?? '').filter((value) => value !== ''),
    whyNoDisks:
      whyNoLeases ??
      (isManual ? `libvirt locks no disks, but <lease> elements alone: see auto_disk_leases in ${lockd}.` : null),
    whyNoLeases,
  };
}

function whyNoManager(file: string): string | null {
  const manager = settingOf(file, 'lock_manager');
  if (manager !== undefined && manager !== 'lockd')
    return `libvirt asks another lock manager (${manager}): see lock_manager in ${file}.`;
  if (manager === undefined && canRead(file))
    return `libvirt asks no lock manager: set lock_manager = "lockd" in ${file}, restart libvirt, and then pause and resume each guest.`;
  return null;
}

function canRead(file: string): boolean {
  return textOf(file) !== undefined;
}

function settingOf(file: string, key: string): string | undefined {
  const [, quoted, plain] =
    new RegExp(`^\\s*${key}\\s*=\\s*(?:"([^"]*)"|([^"\\s#]*))`, 'm').exec(textOf(file) ?? '') ?? [];
  return quoted ?? plain;
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return undefined;
  }
}

function summaryOf({ kind, locks, confirmed }: Subject, guests: number, groups: readonly Group[]): string {
  const ofSeverity = (severity: string): number =>
    groups.filter((group) => group.severity === severity).reduce((sum, group) => sum + group.count, 0);
  const [errors, warnings] = [ofSeverity('error'), ofSeverity('warning')];
  const scene = [count(guests, 'guest'), ...(locks === null ? [] : [count(locks, 'lock')])].join(', ');
  if (errors + warnings > 0) {
    const parts = [
      ...(errors > 0 ? [count(errors, 'error')] : []),
      ...(warnings > 0 ? [count(warnings, 'warning')] : []),
    ];
    return `${parts.join(', ')}; ${scene}`;
  }
  if (kind === 'libvirt') return `${scene}; whose locks they are, a C daemon does not say`;
  const rest = (locks ?? 0) - confirmed;
  return rest === 0 ? `${scene}, all confirmed by the kernel` : `${scene}, of which the kernel does not list ${rest}`;
}
