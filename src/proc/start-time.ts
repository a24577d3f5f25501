/** When processes started. By the addon, because the registration of a guest waits for it. */
import { constants } from 'node:os';
import { posix } from '../posix/posix.ts';

const { ESRCH } = constants.errno;
const PID_MAX = 0x7fffffff;

/**
 * When the present process with this pid started, in clock ticks since boot: with the pid it identifies a process for good. Null
 * when no process has the pid; undefined when that cannot be found out.
 */
export function startTimeOf(pid: number): number | null | undefined {
  if (pid > PID_MAX) return null;
  const ticks = posix.processStart(pid);
  if (ticks >= 0) return ticks;
  // Without /proc, or if it hides the processes of other users, the directory of a live process is missing as well.
  const pidfd = posix.pidfdOpen(pid);
  if (pidfd >= 0) posix.close(pidfd);
  return pidfd === -ESRCH ? null : undefined;
}
