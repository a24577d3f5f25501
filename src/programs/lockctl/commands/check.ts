/**
 * `check`: compares every lock of the daemon with the kernel. Two guests are kept off one disk only if the kernel has the lock,
 * on the file that is at the path now, for an owner that lives.
 */
import type { Command } from 'commander';
import { AcquireFlag } from '../../../../xdr/programs/lock.ts';
import { FileState, Holding, type LockInfo, type LockState } from '../../../../xdr/programs/inquire.ts';
import type { Context } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';
import { Exit } from '../exit.ts';
import {
  coversFirstByte,
  type DescriptorInfo,
  descriptorInfo,
  isOnFile,
  isRecordLock,
  type KernelLock,
  readLocks,
} from '../../../proc/locks.ts';
import type { OpenDescriptor } from '../../../proc/descriptors.ts';
import { mayKeepNoRecord, type Mount, mountsOf } from '../../../proc/mounts.ts';
import { DeadOwners } from '../dead-owners.ts';
import { daemonProcess } from '../daemon-process.ts';
import { HelperFiles } from '../kernel/helper-files.ts';
import type { Kind } from '../health/findings.ts';
import { deathsJson, lastDeathText, survivalText } from '../health/survival.ts';
import { count, json, lossCause, name, nameJson, owner, print, style } from '../output.ts';

/** An error means that two guests may write to one disk. */
export interface Finding {
  readonly severity: 'error' | 'warning';
  readonly kind: Kind;
  readonly path: string;
  readonly text: string;
}

interface Report {
  readonly locks: number;
  readonly findings: readonly Finding[];
  /** Locks that the kernel cannot confirm, and the types of the file systems that keep them themselves. */
  readonly unlisted: number;
  readonly unlistedTypes: readonly string[];
  /** Locks on storage that hosts may share, and how many of them its server has confirmed. */
  readonly shared: number;
  readonly sharedHeld: number;
  /** False where the daemon's process cannot be seen, so that what the kernel has of its locks is not known. */
  readonly isCompared: boolean;
}

export function addCheck(program: Command, context: Context): void {
  program
    .command('check')
    .description('verify every lock against the kernel, without opening any file')
    .option('--json', 'print JSON')
    .option('-q, --quiet', 'print findings only')
    .addHelpText('after', '\nExit status 1: there are findings. Suits monitoring.')
    .action(async (options: { json?: true; quiet?: true }) => {
      const daemon = context.daemon();
      const pid = daemonProcess(daemon.target, (await daemon.status()).pid);
      const report = await checkLocks(daemon, pid, () => undefined, true);
      const counters = await daemon.counters();
      const deaths = counters.get('deaths') ?? 0;
      const errors = report.findings.filter(({ severity }) => severity === 'error').length;
      const warnings = report.findings.length - errors;
      if (options.json === true) {
        const findings = report.findings.map(({ severity, path, text }) => ({
          severity,
          ...nameJson('path', path),
          text,
        }));
        const { locks, unlisted, shared, sharedHeld: confirmed } = report;
        print(json({ locks, unlisted, shared, confirmed, findings, ...deathsJson(counters) }, 2));
      } else {
        for (const { severity, path, text } of report.findings) {
          print(`${style(severity === 'error' ? 'red' : 'yellow', severity)}: ${name(path)}: ${text}`);
        }
        if (options.quiet !== true || report.findings.length > 0) {
          print(
            report.findings.length === 0
              ? style('green', `OK: ${count(report.locks, 'lock')}, ${confirmedText(report)}.`)
              : [count(report.locks, 'lock'), count(errors, 'error'), count(warnings, 'warning')].join(', '),
          );
          if (deaths > 0)
            print(
              `The daemon has died ${count(deaths, 'time')}${lastDeathText(counters)}; ${survivalText(report.locks, counters)}.`,
            );
        }
      }
      if (report.findings.length > 0) process.exitCode = Exit.NO;
    });
}

function confirmedText(report: Report): string {
  const { shared, sharedHeld } = report;
  const asked = shared === 0 ? '' : `; of ${shared} on storage that hosts may share, its server confirms ${sharedHeld}`;
  return `${kernelText(report)}${asked}`;
}

function kernelText({ unlisted, unlistedTypes, isCompared }: Report): string {
  if (!isCompared) return 'not compared with the kernel, for the daemon is in another pid namespace';
  if (unlisted === 0) return 'all confirmed by the kernel';
  return `all confirmed by the kernel but ${unlisted}, of which ${unlistedTypes.join(', ')} has the only record`;
}

/**
 * @param pid the daemon's process; null: it cannot be seen, and what the kernel has is not compared
 * @param onLock gets every lock, and the descriptor of its file if that is known
 * @param asksServers the servers of storage that hosts may share are asked now; else what they last said counts
 */
export async function checkLocks(
  daemon: InquireClient,
  pid: number | null,
  onLock: (lock: LockInfo, open: OpenDescriptor | undefined) => void = () => undefined,
  asksServers = false,
): Promise<Report> {
  // The table is read before the list, so a lock acquired in between is checked again by itself.
  const kernel = pid === null ? null : new KernelTable(readLocks(), pid, new HelperFiles(await daemon.storages()));
  const findings: Finding[] = [];
  const dead = await DeadOwners.ask(daemon);
  let suspects: LockInfo[] = [];
  let [locks, inEtcd] = [0, 0];
  for await (const page of daemon.lockPages({}, true)) {
    for (const lock of page) {
      if (lock.firstHold === 0) {
        locks++;
        const isInEtcd = lock.file === FileState.IN_ETCD;
        if (isInEtcd) inEtcd++;
        onLock(lock, isInEtcd ? undefined : kernel?.find(lock));
        if (!isInEtcd && kernel?.has(lock) === false) suspects.push(lock);
      }
      findings.push(...fileFindings(lock), ...ownerFindings(lock, dead));
    }
  }
  suspects = suspects.filter((lock) => kernel?.descriptorHas(lock) === false);
  const unlisted = suspects.filter((lock) => kernel?.keeperOf(lock) !== undefined);
  const unlistedTypes = new Set(unlisted.map((lock) => kernel?.keeperOf(lock) ?? ''));
  // Also those of a helper that was started during the check.
  if (suspects.length > unlisted.length) kernel?.look(new HelperFiles(await daemon.storages()));
  // A lock that was released during the check is no finding.
  for (const lock of suspects) {
    if (kernel === null || unlisted.includes(lock)) continue;
    const [now] = await daemon.locks({ lockspace: lock.lockspace, resource: lock.name });
    if (now?.descriptor !== lock.descriptor || now.inode !== lock.inode || kernel.descriptorHas(now)) continue;
    findings.push({ path: lock.path, ...kernel.lackOf(now) });
  }
  const states = await daemon.lockStates(asksServers);
  findings.push(...states.flatMap(stateFindings));
  return {
    locks,
    findings,
    unlisted: unlisted.length + inEtcd,
    unlistedTypes: [...unlistedTypes, ...(inEtcd > 0 ? ['etcd'] : [])],
    shared: states.length,
    sharedHeld: states.filter(({ holding }) => holding === Holding.HELD || holding === Holding.REGAINED).length,
    isCompared: kernel !== null,
  };
}

/**
 * What the kernel has of the daemon's locks: its POSIX locks in /proc/locks, and all of them with its descriptors and those of its
 * storage helpers. OFD locks have no pid in the table.
 */
class KernelTable {
  private readonly rows = new Map<bigint, KernelLock[]>();
  private readonly pid: number;
  private mounts: ReadonlyMap<number, Mount> | undefined;
  private helpers: HelperFiles;

  constructor(rows: readonly KernelLock[], pid: number, helpers: HelperFiles) {
    this.pid = pid;
    this.helpers = helpers;
    for (const row of rows) {
      if (row.pid !== pid || row.kind !== 'POSIX' || !coversFirstByte(row)) continue;
      const others = this.rows.get(row.inode);
      if (others === undefined) this.rows.set(row.inode, [row]);
      else others.push(row);
    }
  }

  has(lock: LockInfo): boolean {
    return this.rows.get(lock.inode)?.some((row) => isOnFile(row, lock) && row.access === accessOf(lock)) ?? false;
  }

  /** The descriptor that the lock's file is locked by. */
  find(lock: LockInfo): OpenDescriptor | undefined {
    return isRemote(lock) ? this.helpers.find(lock) : { pid: this.pid, fd: lock.descriptor };
  }

  /** Takes a newer look of the helpers. */
  look(helpers: HelperFiles): void {
    this.helpers = helpers;
  }

  descriptorHas(lock: LockInfo, access = accessOf(lock)): boolean {
    if (isRemote(lock)) return this.helpers.has(lock, access);
    return (
      this.descriptor(lock)?.locks.some(
        (row) => isRecordLock(row) && coversFirstByte(row) && row.inode === lock.inode && row.access === access,
      ) ?? false
    );
  }

  /** The type of the lock's file system, if that may keep the only record of its locks. */
  keeperOf(lock: LockInfo): string | undefined {
    const type = isRemote(lock) ? this.helpers.typeOf(lock) : this.typeOf(lock);
    return mayKeepNoRecord(type) ? type : undefined;
  }

  private typeOf(lock: LockInfo): string | undefined {
    const mount = this.descriptor(lock)?.mount;
    return mount === undefined ? undefined : (this.mounts ??= mountsOf(this.pid)).get(mount)?.type;
  }

  lackOf(lock: LockInfo): Omit<Finding, 'path'> {
    if (isRemote(lock) && !this.helpers.isComplete) {
      const text = 'a storage helper cannot be looked into, and the kernel cannot be asked for this lock';
      return { severity: 'warning', kind: 'unseen', text };
    }
    if (accessOf(lock) === 'WRITE' && this.descriptorHas(lock, 'READ')) {
      const text = 'the kernel has only a read lock of the daemon: another process shares what should be exclusive';
      return { severity: 'error', kind: 'shared-lock', text };
    }
    const text = `the kernel has no ${accessOf(lock).toLowerCase()} lock of the daemon`;
    return { severity: 'error', kind: 'no-kernel-lock', text };
  }

  /** Undefined when it is closed, or cannot be read. */
  private descriptor({ descriptor }: LockInfo): DescriptorInfo | undefined {
    try {
      return descriptorInfo(this.pid, descriptor);
    } catch {
      return undefined;
    }
  }
}

/** A storage helper has its descriptor. */
function isRemote({ descriptor }: LockInfo): boolean {
  return descriptor < 0;
}

function accessOf({ flags }: LockInfo): 'READ' | 'WRITE' {
  return (flags & AcquireFlag.SHARED) === 0 ? 'WRITE' : 'READ';
}

const FILES: Readonly<Record<number, Omit<Finding, 'path'>>> = {
  [FileState.REPLACED]: {
    severity: 'error',
    kind: 'replaced-file',
    text: 'another file is at this path now, and the lock on the old file does not guard it',
  },
  [FileState.GONE]: {
    severity: 'warning',
    kind: 'gone-file',
    text: 'the file is gone from this path, and its lock does not guard a new file there',
  },
  [FileState.UNREADABLE]: {
    severity: 'warning',
    kind: 'unreadable-file',
    text: 'the file at this path cannot be checked',
  },
  [FileState.NO_ANSWER]: {
    severity: 'warning',
    kind: 'unreadable-file',
    text: 'the storage of this path does not answer, and the file there cannot be checked',
  },
  [FileState.BROKEN]: {
    severity: 'error',
    kind: 'broken-descriptor',
    text: 'the descriptor of the lock is not the file that was locked',
  },
};

function fileFindings({ file, path, firstHold }: LockInfo): Finding[] {
  const found = FILES[file];
  return found === undefined || firstHold > 0 ? [] : [{ ...found, path }];
}

/** Locks that another host may have got, as the server of the file system says. */
function stateFindings(state: LockState): Finding[] {
  const { holding, path, reason } = state;
  switch (holding) {
    case Holding.TAKEN:
    case Holding.GONE:
      return [{ severity: 'error', kind: 'lost-lock', path, text: lossCause(state) }];
    case Holding.REGAINED:
      return [{ severity: 'warning', kind: 'regained-lock', path, text: lossCause(state) }];
    case Holding.UNKNOWN: {
      const text = `whether the lock is still held is not known: ${name(reason)}`;
      return [{ severity: 'warning', kind: 'unconfirmed-lock', path, text }];
    }
    default:
      return [];
  }
}

/** Owners whose process has ended, while libvirtd, which acquired the lock for them, has not released it. */
function ownerFindings({ holds, path }: LockInfo, dead: DeadOwners): Finding[] {
  return holds
    .filter(({ owner: who }) => dead.has(who))
    .map(({ owner: who }) => ({
      severity: 'warning',
      kind: 'dead-owner',
      path,
      text: `its owner ${owner(who)} has ended`,
    }));
}
