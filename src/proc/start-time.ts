/** When processes started, as the daemon asks: by the addon, for a registration of a guest waits for the answer. */
import { constants } from 'node:os';
import { posix } from '../posix/posix.ts';

const { ESRCH } = constants.errno;
const PID_MAX = 0x7fffffff;

/**
 * When the process that has this pid now started, in clock ticks since the host's boot: with the pid it names a process for
 * good. Null when no process has the pid; undefined when that could not be found out, which is not the same.
 */
export function startTimeOf(pid: number): number | null | undefined {
  if (pid > PID_MAX) return null;
  const ticks = posix.processStart(pid);
  if (ticks >= 0) return ticks;
  // A /proc that is not mounted, or hides the processes of others, has no such directory either.
  const pidfd = posix.pidfdOpen(pid);
  if (pidfd >= 0) posix.close(pidfd);
  return pidfd === -ESRCH ? null : undefined;
}
