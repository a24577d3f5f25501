/**
 * Finds out why systemd ends this process. `systemctl stop`, `systemctl restart` and an operator's kill all send SIGTERM. systemd's job
 * for our unit distinguishes them, as seen on systemd 252:
 *
 *     systemctl stop, poweroff, reboot, isolate    stop
 *     restart, try-restart, reload-or-restart      restart
 *     stop, and a start before that has ended      start
 *     kill, systemctl kill                         no job
 *
 * A stop ends the owners of all locks, as with C. Under running guests a stop is usually a mistake, and RefuseManualStop= would also
 * refuse restarts and the stops of a package upgrade. So the daemon turns such a stop into a restart: it has systemd replace the job
 * `stop` by a job `start`. Then systemd keeps our stored descriptors, and `systemctl stop` reports that its job was cancelled. During a
 * shutdown systemd refuses the job `start`, and the stop goes on.
 */
import { rmSync } from 'node:fs';
import { logger } from '../../log/log.ts';
import { ownUnit, systemctl, type Unit } from '../../store/manager.ts';

const log = logger('locking.lock_daemon');

/** `restart`: systemd starts us again by a job. `none`: it has no job for us, and starts us again by `Restart=`. */
export type Job = 'stop' | 'restart' | 'none' | 'unknown';

/**
 * How long systemctl may take, in milliseconds. systemd does not answer while it reloads its units, which takes seconds with
 * thousands of stored descriptors. It kills us after 90 s.
 */
const LIMIT_MS = 20_000;

/** Runs systemctl and returns its output; undefined when it failed or timed out. */
type Systemctl = (...args: readonly string[]) => Promise<string | undefined>;

/** The arguments of {@link jobAtEnd}. */
export interface EndingUnit {
  readonly unit: Unit | undefined;
  readonly systemctl: Systemctl;
  /** Whether a guest holds locks, or is connected, as a suspended one is. */
  readonly hasOwners: () => boolean;
  /** An operator creates this file to permit the next stop, which removes it. */
  readonly mayStopFile: string;
}

/**
 * Returns systemd's job for our unit. Turns a `stop` under guests into a restart first. The caller ends the owners for `stop` alone. Never
 * rejects. Takes 10 ms, during which the daemon serves.
 */
export async function jobAtEnd({ unit, systemctl, hasOwners, mayStopFile }: EndingUnit): Promise<Job> {
  const jobs = await jobsOf(unit, systemctl);
  if (unit === undefined || jobs === undefined) return 'unknown';
  const { name, manager } = unit;
  const job = kindOf(jobs.get(name)?.type);
  if (job !== 'stop' || !hasOwners() || jobs.has('shutdown.target')) return job;
  if (takePermission(mayStopFile)) return job;
  const started = await systemctl(`--${manager}`, 'start', '--no-block', name);
  if (started === undefined) return job;
  log.warn(
    `Not stopped, because guests hold locks or are connected: ${name} starts again at once, with all of them. To end the guests that hold locks and stop: touch ${mayStopFile}, then stop it again`,
  );
  return 'restart';
}

/** Whether there is a permission for one stop. One that cannot be removed would permit all stops. */
function takePermission(path: string): boolean {
  try {
    rmSync(path);
    return true;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') log.error(`Not stopped by ${path}, which cannot be removed: ${message}`);
    return false;
  }
}

/**
 * Whether systemd is ending this process: it has sent SIGTERM. False when it does not say, and for a job that waits for another unit's:
 * systemd sends SIGTERM when that is done, and starts no other process before, so nobody would be served.
 */
export async function isToEnd({ unit, systemctl }: Pick<EndingUnit, 'unit' | 'systemctl'>): Promise<boolean> {
  if (unit === undefined) return false;
  const { name, manager } = unit;
  const state = await systemctl(`--${manager}`, 'show', '--property=ActiveState', name);
  // Then a job `start` is for the next process. It takes the place of `stop`, for example when the sockets' units are restarted.
  if (state?.trim() === 'ActiveState=deactivating') return true;
  const jobs = await jobsOf(unit, systemctl);
  const job = jobs?.get(name);
  // Not `start`, which is that of this very process.
  return job?.state === 'running' && ['stop', 'restart', 'try-restart'].includes(job.type);
}

interface ListedJob {
  readonly type: string;
  readonly state: string;
}

/** All jobs, by unit. */
async function jobsOf(
  unit: Unit | undefined,
  systemctl: Systemctl,
): Promise<ReadonlyMap<string, ListedJob> | undefined> {
  if (unit === undefined) return undefined;
  const listed = await systemctl(`--${unit.manager}`, 'list-jobs', '--no-legend', '--no-pager', '--plain', '--full');
  if (listed === undefined) return undefined;
  const rows = listed.split('\n').map((line) => line.trim().split(/\s+/));
  return new Map(rows.map(([, name = '', type = '', state = '']) => [name, { type, state }]));
}

function kindOf(type: string | undefined): Job {
  switch (type) {
    case 'stop':
      return 'stop';
    case 'restart':
    case 'start':
    case 'try-restart':
    case 'reload-or-start':
      return 'restart';
    default:
      // No job, or `reload`, `verify-active` or `nop`, which neither end nor start us.
      return 'none';
  }
}

/** The arguments of {@link jobAtEnd} for this process. */
export function endingUnit(hasOwners: () => boolean, mayStopFile: string): EndingUnit {
  const ask: Systemctl = async (...args) => systemctl(LIMIT_MS, ...args);
  return {
    // Read when it is needed, since it may not have been readable before.
    get unit() {
      return ownUnit();
    },
    systemctl: ask,
    hasOwners,
    mayStopFile,
  };
}
