/**
 * Which process a pid names. Apart from processes.ts, for the addon: a registration of a guest waits for the answer, and not every
 * program has one.
 */
import { constants } from 'node:os';
import { posix } from '../posix/posix.ts';
import { statusOf } from './processes.ts';

const { ESRCH } = constants.errno;
const MAX_PID = 0x7fffffff;

/**
 * When the process that has this pid now started, in clock ticks since the host's boot: with the pid it names a process for
 * good. Null when no process has the pid; undefined when that could not be found out, which is not the same.
 */
export function startTimeOf(pid: number): number | null | undefined {
  if (pid > MAX_PID) return null;
  const ticks = posix.processStart(pid);
  if (ticks >= 0) return ticks;
  // A /proc that is not mounted, or hides the processes of others, has no such directory either.
  const pidfd = posix.pidfdOpen(pid);
  if (pidfd >= 0) posix.close(pidfd);
  return pidfd === -ESRCH ? null : undefined;
}

/** Whether the process that has this pid now is in our pid namespace, and not in one below it; undefined if that is unknown. */
export function isLocalProcess(pid: number): boolean | undefined {
  try {
    // A process has one number in each namespace from the reader's down to its own.
    const numbers = statusOf(pid, 'NSpid');
    return numbers === undefined ? undefined : !/\s/.test(numbers.trim());
  } catch {
    return undefined;
  }
}
