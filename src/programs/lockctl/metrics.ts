/** The daemon in the text format of Prometheus, for `metrics` and `serve`. */
import type { StatusInfo, StorageInfo } from '../../../xdr/programs/inquire.ts';
import { CommandError, Exit } from './exit.ts';
import { assess } from './health/assess.ts';
import { healthMetrics } from './health/metrics.ts';
import { type InquireClient, formatVersion } from './inquire-client.ts';
import { decode } from './output.ts';

/** The media type of the format. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** `virtlockd_up 0` for a daemon that is down or libvirt's: metrics that stay as they were would say that all is well. */
export async function metricsOrDown(daemon: InquireClient): Promise<{ text: string; failure: CommandError | null }> {
  try {
    return { text: await metrics(daemon), failure: null };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    // Guests whose locks ended with the daemon count all the more.
    const health = error.exit === Exit.DENIED ? [] : healthMetrics(await assess(daemon, error));
    return { text: format([...upMetrics(0), ...health]), failure: error };
  }
}

/** @throws CommandError when the daemon does not answer */
export async function metrics(daemon: InquireClient): Promise<string> {
  const [status, counters, storages] = [await daemon.status(), await daemon.counters(), await daemon.storages()];
  const own = [...metricsOf(status, counters), ...storageMetrics(storages)];
  return format([...upMetrics(1), ...own, ...healthMetrics(await assess(daemon))]);
}

/** The time distinguishes a collector that has stopped from a daemon that does not change. */
function upMetrics(up: 0 | 1): Metric[] {
  return [
    ['virtlockd_up', 'gauge', 'Whether the daemon answers inquiries.', up],
    ['virtlockd_metrics_time_seconds', 'gauge', 'When these metrics were made.', Date.now() / 1000],
  ];
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
    ...lossMetrics(counters),
    ...etcdMetrics(counters),
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

/** Characters of a path that become a label. */
const LABEL_MAX = 256;

/**
 * By mount points, of which there are few, and not by the paths of calls. None where no storage is called that may hang. Two file systems
 * at one point, of which one hides the other, share a value: Prometheus takes no sample twice.
 */
function storageMetrics(storages: readonly StorageInfo[]): Metric[] {
  if (storages.length === 0) return [];
  const calls = new Map<string, number>();
  const seconds = new Map<string, number>();
  for (const { name, hangsSince, callCount } of storages) {
    const labels = `{path="${label(decode(name.slice(0, LABEL_MAX)))}"}`;
    const hangs = hangsSince > 0;
    calls.set(labels, (calls.get(labels) ?? 0) + (hangs ? callCount : 0));
    seconds.set(labels, Math.max(seconds.get(labels) ?? 0, hangs ? (Date.now() - hangsSince) / 1000 : 0));
  }
  return [
    ['virtlockd_hanging_calls', 'gauge', 'Calls that wait for storage that does not answer.', [...calls]],
    ['virtlockd_hanging_seconds', 'gauge', 'For how long that storage has not answered; 0 when it does.', [...seconds]],
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

/** Of locks on storage that hosts may share. None of a daemon whose release does not report them. */
function lossMetrics(counters: ReadonlyMap<string, number>): Metric[] {
  const lost = counters.get('lostLocks');
  if (lost === undefined) return [];
  const [regained = 0, unconfirmed = 0] = [counters.get('regainedLocks'), counters.get('unconfirmedLocks')];
  return [
    ['virtlockd_lost_locks', 'gauge', 'Locks that their file servers have given to others or dropped.', lost],
    ['virtlockd_regained_locks', 'gauge', 'Locks that were lost and are held again.', regained],
    [
      'virtlockd_unconfirmed_locks',
      'gauge',
      'Locks of which the file servers do not say whether they are held.',
      unconfirmed,
    ],
    ['virtlockd_locks_lost_total', 'counter', 'How often a lock was found lost.', counters.get('locksLost') ?? 0],
  ];
}

/** None where no lockspace is kept in etcd. */
function etcdMetrics(counters: ReadonlyMap<string, number>): Metric[] {
  const locks = counters.get('etcdLocks');
  if (locks === undefined) return [];
  const count = (key: string): number => counters.get(key) ?? 0;
  return [
    ['virtlockd_etcd_locks', 'gauge', 'Resources that this host holds in etcd.', locks],
    ['virtlockd_etcd_owners', 'gauge', 'Processes that would be killed at the end of the lease.', count('etcdOwners')],
    [
      'virtlockd_etcd_owners_killed_total',
      'counter',
      'Processes that were killed because the lease had ended.',
      count('etcdOwnersKilled'),
    ],
    ['virtlockd_etcd_lease_held', 'gauge', 'Whether this host has a lease in etcd.', count('etcdLeaseHeld')],
    [
      'virtlockd_etcd_lease_age_seconds',
      'gauge',
      'Time since the last keepalive that etcd has answered was sent.',
      count('etcdLeaseAge') / 1000,
    ],
    [
      'virtlockd_etcd_lease_left_seconds',
      'gauge',
      'Time until owners of locks in etcd are killed, unless etcd answers.',
      count('etcdLeaseLeft') / 1000,
    ],
    ['virtlockd_etcd_answers', 'gauge', 'Whether etcd has answered the last call.', count('etcdAnswers')],
    [
      'virtlockd_etcd_guarded',
      'gauge',
      'Whether the guard would end every owner of a lock in etcd.',
      count('etcdGuarded'),
    ],
    ['virtlockd_etcd_watchdog', 'gauge', 'Whether the guard feeds a hardware watchdog.', count('etcdWatchdog')],
  ];
}

/** None of a daemon whose release does not report them. */
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
