/** `metrics`: for Prometheus, on standard output or in a file for node_exporter's textfile collector. */
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
    .option('--write <file>', "write them to this file instead, in one step: for node_exporter's textfile collector")
    .option('--interval <seconds>', 'with --write: again and again, until interrupted', wholeNumber(1, 86_400))
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

/** Whatever fails may work the next time: the daemon is started, the disk has room again. */
async function keepWriting(daemon: InquireClient, file: string, interval: number, signal: AbortSignal): Promise<void> {
  // A daemon that does not answer is not waited for then.
  const stop = (): void => {
    daemon.close();
  };
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

/** A collector must never read half a file, and is another user, whatever the umask. */
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

/** A daemon that is down, or the C one, is a fact to be told: a file that was left as it is would say that all is well. */
async function metricsOrDown(daemon: InquireClient): Promise<{ text: string; failure: CommandError | null }> {
  try {
    return { text: await metrics(daemon), failure: null };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const text = format([['virtlockd_up', 'gauge', 'Whether the daemon answers inquiries.', 0]]);
    return { text, failure: error };
  }
}

export async function metrics(daemon: InquireClient): Promise<string> {
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
    ['virtlockd_info', 'gauge', 'What runs.', [[version, 1]]],
    ['virtlockd_start_time_seconds', 'gauge', 'When the process began to serve.', status.started / 1000],
    ['virtlockd_executed_time_seconds', 'gauge', 'When it executed its present program.', status.executed / 1000],
    ['virtlockd_restarts_total', 'counter', 'How often it executed itself again.', status.restarts],
    [
      'virtlockd_restarts_refused_total',
      'counter',
      'How often it did not, as what it was to execute would have lost the locks.',
      count('restartsRefused'),
    ],
    ['virtlockd_locks', 'gauge', 'Resources that are held.', status.locks],
    ['virtlockd_lockspaces', 'gauge', 'Lockspaces that are known.', status.lockspaces],
    ['virtlockd_owners', 'gauge', 'Processes that hold locks.', status.owners],
    ['virtlockd_owners_being_killed', 'gauge', 'Owners that lost their connection and are killed.', status.killing],
    ['virtlockd_clients', 'gauge', 'Connections.', each('clients')],
    ['virtlockd_clients_max', 'gauge', 'The most connections.', each('maxClients')],
    ['virtlockd_open_fds', 'gauge', 'Open descriptors.', status.descriptors],
    ['virtlockd_max_fds', 'gauge', 'The most open descriptors; 0 for no limit.', status.descriptorLimit],
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
    ['virtlockd_connections_total', 'counter', 'Connections that were made to the lock socket.', count('connected')],
  ];
}

/** None of a daemon whose release does not tell. */
function memoryMetrics(counters: ReadonlyMap<string, number>): Metric[] {
  const [used, most] = [counters.get('lockMemory'), counters.get('lockMemoryMax')];
  if (used === undefined || most === undefined) return [];
  return [
    ['virtlockd_lock_memory_bytes', 'gauge', 'Memory that the locks are counted with.', used],
    ['virtlockd_lock_memory_max_bytes', 'gauge', 'The most of it: beyond it, acquires are refused.', most],
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
