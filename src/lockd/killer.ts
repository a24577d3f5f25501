/**
 * Ends a process that must not go on writing, because its locks are gone: SIGTERM at once, SIGKILL when that does not
 * help, at last a warning. The C daemon serves nobody meanwhile; here a timer looks, and everybody is served.
 */
import { readFileSync } from 'node:fs';
import { logger } from '../daemon/log/log.ts';

const log = logger('locking.lock_daemon');

/** Between two looks, in milliseconds. */
const LOOK_EVERY_MS = 200;
/** The look at which SIGKILL is sent (after 1.6 s), and the one that is the last (3 s). */
const KILL_AT = 8;
const LAST_LOOK = 15;

/** What the killer needs of the world, so that a test can let 3 seconds pass in no time. */
export interface KillerHost {
  /** As process.kill: throws an error with code ESRCH when there is no such process. */
  kill(pid: number, signal: NodeJS.Signals | 0): void;
  /** When the process started, in ticks since boot; null when it is gone. Tells it from a later one of the same pid. */
  startTime(pid: number): string | null;
  setTimeout(callback: () => void, ms: number): unknown;
}

export const realHost: KillerHost = {
  kill: (pid, signal) => {
    process.kill(pid, signal);
  },
  startTime: (pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      // Behind the program's name, which is in parentheses and may hold anything, it is the 20th word.
      return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
    } catch {
      return null;
    }
  },
  setTimeout: (callback, ms) => setTimeout(callback, ms),
};

/** A process that is being killed, as a re-execution hands it over. */
export interface Killing {
  readonly pid: number;
  /** When it started: see {@link KillerHost.startTime}. */
  readonly born: string | null;
  /** How often it has been looked at. */
  looks: number;
}

/** Kills the process. `done` is called when it is gone or given up. */
export function killPainfully(killing: Killing, host: KillerHost, done: (gone: boolean) => void): void {
  const { pid, born } = killing;
  // 0 and 1 would be our own process group and init; a peer in another pid namespace has pid 0.
  if (pid <= 1 || pid === process.pid) {
    log.warn(`Lock holder has pid ${pid}, which cannot be killed`);
    done(false);
    return;
  }
  const look = (): void => {
    const { looks } = killing;
    const signal = looks === 0 ? 'SIGTERM' : looks === KILL_AT ? 'SIGKILL' : 0;
    if (looks >= LAST_LOOK) {
      log.warn(`Unable to kill off process ${pid}, which lost its locks and may still write to its disks`);
      done(false);
      return;
    }
    // The start first: by now the pid may be another process's, which no signal must reach.
    if ((looks > 0 && host.startTime(pid) !== born) || !isAlive(pid, signal, host)) {
      done(true);
      return;
    }
    killing.looks++;
    host.setTimeout(look, LOOK_EVERY_MS);
  };
  look();
}

function isAlive(pid: number, signal: NodeJS.Signals | 0, host: KillerHost): boolean {
  try {
    host.kill(pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    log.warn(`Unable to kill process ${pid}: ${(error as Error).message}`);
    return true;
  }
}
