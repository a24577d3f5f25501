/**
 * Why systemd ends this process. `systemctl stop` and `restart` send the same SIGTERM, and so does an operator's kill. The job that
 * systemd runs for our unit tells them apart, seen on systemd 252:
 *
 *     systemctl stop, poweroff, reboot, isolate    stop
 *     restart, try-restart, reload-or-restart      restart
 *     stop, and a start before that has ended      start
 *     kill, systemctl kill                         no job
 *
 * A stop ends the owners of all locks, as with C. While guests are there, it is more often a mistake than not, and
 * RefuseManualStop= would refuse restarts and the stops that a package makes, too. So such a stop is turned into a restart: a
 * job `start` takes the place of the job `stop`, in which case systemd keeps the descriptors that we have stored, and `systemctl
 * stop` says that its job was cancelled. At a shutdown systemd refuses that job, and the stop goes on.
 */
import { existsSync, rmSync } from 'node:fs';
import { logger } from '../../log/log.ts';
import { controlGroupsOf } from '../../proc/processes.ts';
import { runProgram } from '../../restart/successor.ts';
import { type Unit, unitOf } from '../../store/manager.ts';

const log = logger('locking.lock_daemon');

/** `restart`: systemd starts us again by a job. `none`: it has no job for us, and starts us again by `Restart=`. */
export type Job = 'stop' | 'restart' | 'none' | 'unknown';

/**
 * How long systemctl may take, in milliseconds. systemd answers nobody while it reloads its units, which takes seconds with
 * thousands of stored descriptors; and it waits for us for 90 s.
 */
const LIMIT_MS = 20_000;

/** Runs systemctl and returns what it printed; undefined when it failed, or has not answered in time. */
export type Systemctl = (...args: readonly string[]) => Promise<string | undefined>;

async function systemctl(...args: readonly string[]): Promise<string | undefined> {
  try {
    const { status, output } = await runProgram('systemctl', args, LIMIT_MS);
    return status === 0 ? output : undefined;
  } catch {
    return undefined;
  }
}

/** What decides about the end. */
export interface EndingUnit {
  readonly unit: Unit | undefined;
  readonly systemctl: Systemctl;
  /** Whether a guest holds locks, or is connected and may do so again. */
  readonly hasOwners: () => boolean;
  /** A file by whose presence an operator says that the next stop is meant. It is removed. */
  readonly mayStopFile: string;
}

/**
 * The job that systemd runs for our unit, after a `stop` under guests has been turned into a restart. The caller ends the owners for
 * `stop` alone. Never rejects; takes 10 ms, and the daemon serves while it waits.
 */
export async function jobAtEnd({ unit, systemctl, hasOwners, mayStopFile }: EndingUnit): Promise<Job> {
  if (unit === undefined) return 'unknown';
  const { name, manager } = unit;
  const listed = await systemctl(`--${manager}`, 'list-jobs', '--no-legend', '--no-pager', '--plain', '--full');
  if (listed === undefined) return 'unknown';
  const jobs = new Map(listed.split('\n').map((line) => line.trim().split(/\s+/).slice(1, 3) as [string, string]));
  const job = kindOf(jobs.get(name));
  if (job !== 'stop' || !hasOwners() || jobs.has('shutdown.target')) return job;
  if (existsSync(mayStopFile)) {
    rmSync(mayStopFile, { force: true });
    return job;
  }
  const started = await systemctl(`--${manager}`, 'start', '--no-block', name);
  if (started === undefined) return job;
  log.warn(
    `Not stopped, because guests hold locks or are connected: ${name} starts again at once, with all of them. To end the guests that hold locks and stop: touch ${mayStopFile}, then stop it again`,
  );
  return 'restart';
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
      // A reload, or one that only checks: it neither ends us nor starts us.
      return 'none';
  }
}

/** What decides about the end of this process. */
export function endingUnit(hasOwners: () => boolean, mayStopFile: string): EndingUnit {
  return { unit: unitOf(controlGroupsOf('self')), systemctl, hasOwners, mayStopFile };
}
