/**
 * `check`: compares every lock of the daemon with the kernel. Two guests are kept off one disk only if the kernel has the lock,
 * on the file that is at the path now, for an owner that lives.
 */
import type { Command } from 'commander';
import { AcquireFlag } from '../../../../xdr/programs/lock.ts';
import { FileState, type LockInfo } from '../../../../xdr/programs/inquire.ts';
import type { Context } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';
import { Exit } from '../exit.ts';
import { coversFirstByte, descriptorLocks, isOnFile, type KernelLock, readLocks } from '../../../proc/locks.ts';
import { isThere } from '../../../proc/processes.ts';
import { survivalText } from './status.ts';
import { count, json, name, nameJson, owner, print, style } from '../output.ts';

/** An error means that two guests may write to one disk. */
export interface Finding {
  readonly severity: 'error' | 'warning';
  readonly path: string;
  readonly text: string;
}

export interface Report {
  readonly locks: number;
  readonly findings: readonly Finding[];
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
      const report = await checkLocks(daemon);
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
        print(json({ ...report, deaths, findings }, 2));
      } else {
        for (const { severity, path, text } of report.findings) {
          print(`${style(severity === 'error' ? 'red' : 'yellow', severity)}: ${name(path)}: ${text}`);
        }
        if (options.quiet !== true || report.findings.length > 0) {
          print(
            report.findings.length === 0
              ? style('green', `OK: ${count(report.locks, 'lock')}, all confirmed by the kernel.`)
              : [count(report.locks, 'lock'), count(errors, 'error'), count(warnings, 'warning')].join(', '),
          );
          if (deaths > 0)
            print(`The daemon has died ${count(deaths, 'time')}; ${survivalText(report.locks, counters)}.`);
        }
      }
      if (report.findings.length > 0) process.exitCode = Exit.NO;
    });
}

async function checkLocks(daemon: InquireClient): Promise<Report> {
  const { pid } = await daemon.status();
  // The table is read before the list, so a lock acquired in between is checked again by itself.
  const table = new KernelTable(readLocks(), pid);
  const findings: Finding[] = [];
  const alive = new Map<number, boolean>();
  let suspects: LockInfo[] = [];
  let locks = 0;
  for await (const page of daemon.lockPages({}, true)) {
    for (const lock of page) {
      if (lock.firstHold === 0) {
        locks++;
        if (!table.has(lock)) suspects.push(lock);
      }
      findings.push(...fileFindings(lock), ...ownerFindings(lock, alive));
    }
  }
  suspects = suspects.filter((lock) => !descriptorHas(pid, lock));
  // A lock that was released during the check is no finding.
  for (const lock of suspects) {
    const [now] = await daemon.locks({ lockspace: lock.lockspace, resource: lock.name });
    if (now?.descriptor !== lock.descriptor || now.inode !== lock.inode || descriptorHas(pid, now)) continue;
    findings.push({ severity: 'error', path: lock.path, text: lackOf(pid, now) });
  }
  return { locks, findings };
}

function lackOf(pid: number, lock: LockInfo): string {
  if (accessOf(lock) === 'WRITE' && descriptorHas(pid, lock, 'READ'))
    return 'the kernel has only a read lock of the daemon: another process shares what should be exclusive';
  return `the kernel has no ${accessOf(lock).toLowerCase()} lock of the daemon`;
}

/** The daemon's own rows of the kernel's table: its POSIX locks. OFD locks have no pid there, but with the descriptor. */
class KernelTable {
  private readonly rows = new Map<bigint, KernelLock[]>();

  constructor(rows: readonly KernelLock[], pid: number) {
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
}

function accessOf({ flags }: LockInfo): 'READ' | 'WRITE' {
  return (flags & AcquireFlag.SHARED) === 0 ? 'WRITE' : 'READ';
}

function descriptorHas(pid: number, lock: LockInfo, access = accessOf(lock)): boolean {
  return descriptorLocks(pid, lock.descriptor).some(
    (row) =>
      (row.kind === 'POSIX' || row.kind === 'OFDLCK') &&
      coversFirstByte(row) &&
      row.inode === lock.inode &&
      row.access === access,
  );
}

const FILES: Readonly<Record<number, Pick<Finding, 'severity' | 'text'>>> = {
  [FileState.REPLACED]: {
    severity: 'error',
    text: 'another file is at this path now, and the lock on the old file does not guard it',
  },
  [FileState.GONE]: {
    severity: 'warning',
    text: 'the file is gone from this path, and its lock does not guard a new file there',
  },
  [FileState.UNREADABLE]: { severity: 'warning', text: 'the file at this path cannot be checked' },
  [FileState.BROKEN]: { severity: 'error', text: 'the descriptor of the lock is not the file that was locked' },
};

function fileFindings({ file, path, firstHold }: LockInfo): Finding[] {
  const found = FILES[file];
  return found === undefined || firstHold > 0 ? [] : [{ ...found, path }];
}

/** Owners whose process has ended, while libvirtd, which acquired the lock for them, has not released it. */
function ownerFindings({ holds, path }: LockInfo, alive: Map<number, boolean>): Finding[] {
  const findings: Finding[] = [];
  for (const { owner: who } of holds) {
    let lives = alive.get(who.pid);
    if (lives === undefined) {
      lives = isThere(who.pid) !== false;
      alive.set(who.pid, lives);
    }
    if (!lives) {
      findings.push({ severity: 'warning', path, text: `its owner ${owner(who)} has ended` });
    }
  }
  return findings;
}
