/** `metrics`: for Prometheus, to standard output or to a file for node_exporter's textfile collector. */
import { chmodSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { StatusInfo } from '../../../../xdr/programs/inquire.ts';
import { type Context, pause } from '../context.ts';
import { type InquireClient, formatVersion } from '../inquire-client.ts';
import { CommandError, Exit } from '../exit.ts';
import { complain, printText } from '../output.ts';
import { wholeNumber } from '../whole-number.ts';

export function addMetrics(program: Command, context: Context): void {
  program
    .command('metrics')
    .description('print metrics in the text format of Prometheus')
    .option('--write <file>', "write to this file, atomically: for node_exporter's textfile collector")
    .option('--interval <seconds>', 'with --write: write at this interval, until interrupted', wholeNumber(1, 86_400))
    .action(async (options: { write?: string; interval?: number }) => {
      const { write: file, interval } = options;
      if (interval !== undefined && file === undefined) {
        throw new CommandError(Exit.USAGE, '--interval needs --write');
      }
      const daemon = context.daemon();
      if (file === undefined) printText(await metrics(daemon));
      else if (interval === undefined) {
        const { text, failure } = await metricsOrDown(daemon);
        replaceFile(file, text);
        if (failure !== null) throw failure;
      } else await keepWriting(daemon, file, interval * 1000, context.untilInterrupted());
    });
}

/** Goes on after a failure: the daemon may be started, and the disk may have room again. */
async function keepWriting(daemon: InquireClient, file: string, interval: number, signal: AbortSignal): Promise<void> {
  // An interrupt does not wait for a daemon that does not answer.
  const stop = (): void => daemon.close();
  signal.addEventListener('abort', stop, { once: true });
  const isOver = (): boolean => signal.aborted;
  while (!isOver()) {
    const { text, failure } = await metricsOrDown(daemon);
    if (isOver()) return;
    if (failure !== null) complain(failure.message);
    try {
      replaceFile(file, text);
    } catch (error) {
      complain((error as Error).message);
    }
    await pause(interval, signal);
  }
}

/** The collector runs as another user, and must never read half a file. */
function replaceFile(file: string, text: string): void {
  const fresh = `${file}.${process.pid}.tmp`;
  try {
    writeFileSync(fresh, text);
    chmodSync(fresh, 0o644);
    renameSync(fresh, file);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw new CommandError(Exit.NO, `cannot write ${file}: ${(error as Error).message}`);
  }
}

/** `virtlockd_up 0` for a daemon that is down or libvirt's: a file that stays as it was would say that all is well. */
async function metricsOrDown(daemon: InquireClient): Promise<{ text: string; failure: CommandError | null }> {
  try {
    return { text: await metrics(daemon), failure: null };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const text = format([['virtlockd_up', 'gauge', 'Whether the daemon answers inquiries.', 0]]);
    return { text, failure: error };
  }
}

async function metrics(daemon: InquireClient): Promise<string> {
  const [status, counters] = [await daemon.status(), await daemon.counters()];
  return format([
    ['virtlockd_up', 'gauge', 'Whether the daemon answers inquiries.', 1],
    ...metricsOf(status, counters),
  ]);
}

type Value = number | readonly (readonly [labels: string, value: number])[];
type Metric = readonly [name: string, type: 'gauge' | 'counter', help: string, value: Value];

function metricsOf(status: StatusInfo, counters: ReadonlyMap<string, number>): Metric[] {
  const { lockServer, adminServer } = status;
  const count = (key: string): number => counters.get(key) ?? 0;
  const version = `{version="${formatVersion(status.libvirtVersion)}",implementation="${label(status.implementation)}"}`;
  const each = (key: 'clients' | 'maxClients'): Value => [
    ['{server="virtlockd"}', lockServer[key]],
    ['{server="admin"}', adminServer[key]],
  ];
  return [
    ['virtlockd_info', 'gauge', 'Versions of the running daemon.', [[version, 1]]],
    ['virtlockd_start_time_seconds', 'gauge', 'Start time of the process.', status.started / 1000],
    ['virtlockd_executed_time_seconds', 'gauge', 'Time of the last re-execution.', status.executed / 1000],
    ['virtlockd_restarts_total', 'counter', 'Re-executions.', status.restarts],
    ['virtlockd_restarts_refused_total', 'counter', 'Re-executions that were refused.', count('restartsRefused')],
    ['virtlockd_locks', 'gauge', 'Locked resources.', status.locks],
    ['virtlockd_lockspaces', 'gauge', 'Lockspaces.', status.lockspaces],
    ['virtlockd_owners', 'gauge', 'Processes that hold locks.', status.owners],
    [
      'virtlockd_owners_being_killed',
      'gauge',
      'Owners that lost their connection and are being killed.',
      status.killing,
    ],
    ['virtlockd_clients', 'gauge', 'Connections.', each('clients')],
    ['virtlockd_clients_max', 'gauge', 'Limit of connections.', each('maxClients')],
    ['virtlockd_open_fds', 'gauge', 'Open descriptors.', status.descriptors],
    ['virtlockd_max_fds', 'gauge', 'Limit of open descriptors; 0 for no limit.', status.descriptorLimit],
    ['virtlockd_resident_memory_bytes', 'gauge', 'Resident memory.', status.residentMemory],
    ...memoryMetrics(counters),
    ...deathMetrics(counters),
    ['virtlockd_warnings', 'gauge', 'Warnings that status prints.', status.warnings.length],
    ['virtlockd_acquired_total', 'counter', 'Holds granted.', count('acquired')],
    ['virtlockd_released_total', 'counter', 'Holds that ended.', count('released')],
    [
      'virtlockd_refused_total',
      'counter',
      'Acquires that were refused.',
      [
        ['{reason="held"}', count('refusedHeld')],
        ['{reason="other"}', count('refusedOtherwise')],
      ],
    ],
    ['virtlockd_connections_total', 'counter', 'Connections accepted on the lock socket.', count('connected')],
  ];
}

/** Empty for a release of the daemon that does not report it. */
function memoryMetrics(counters: ReadonlyMap<string, number>): Metric[] {
  const [used, max] = [counters.get('lockMemory'), counters.get('lockMemoryMax')];
  if (used === undefined || max === undefined) return [];
  return [
    ['virtlockd_lock_memory_bytes', 'gauge', 'Memory counted for locks.', used],
    ['virtlockd_lock_memory_max_bytes', 'gauge', 'Limit of that memory; beyond it the daemon refuses acquires.', max],
  ];
}

/** None of a daemon whose release does not tell. */
function deathMetrics(counters: ReadonlyMap<string, number>): Metric[] {
  const [deaths, mortal] = [counters.get('deaths'), counters.get('mortalLocks')];
  if (deaths === undefined || mortal === undefined) return [];
  const metrics: Metric[] = [
    ['virtlockd_deaths_total', 'counter', 'How often a daemon has died, and this one has taken over.', deaths],
    ['virtlockd_mortal_locks', 'gauge', 'Locks that would be lost if the daemon died.', mortal],
  ];
  const [stored, missing] = [counters.get('stored'), counters.get('storeMissing')];
  if (stored === undefined || missing === undefined) return metrics;
  return [
    ...metrics,
    ['virtlockd_stored_fds', 'gauge', 'Descriptors that should be in the descriptor store.', stored],
    ['virtlockd_stored_fds_missing', 'gauge', 'How many of these are not, as far as is known.', missing],
  ];
}

function label(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function format(metrics: readonly Metric[]): string {
  return metrics
    .map(([metric, type, help, value]) => {
      const samples: readonly (readonly [string, number])[] = typeof value === 'number' ? [['', value]] : value;
      const lines = samples.map(([labels, number]) => `${metric}${labels} ${number}`);
      return [`# HELP ${metric} ${help}`, `# TYPE ${metric} ${type}`, ...lines].join('\n');
    })
    .concat('')
    .join('\n');
}
