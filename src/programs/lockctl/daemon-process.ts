/** The daemon's process as this process sees it. */
import { isLocalProcess } from '../../proc/identity.ts';
import { nameOf } from '../../proc/processes.ts';
import { toBytes } from './context.ts';
import { findObstacle } from './kernel/holders.ts';
import type { Target } from './target.ts';

/**
 * Its pid here, or null where it cannot be seen. The pid that it reports is that of its own pid namespace, and the kernel translates the
 * pid of whoever has locked the pid file.
 *
 * @param reported by the daemon itself; 0: it reports none
 */
export function daemonProcess({ pidFile }: Target, reported: number): number | null {
  const { lock } = findObstacle(toBytes(pidFile), false);
  if (lock !== null && lock.pid > 0) return lock.pid;
  // The lock is of an open file description, which has no pid, or the pid file is elsewhere.
  return reported > 0 && isLocalProcess(reported) === true && isDaemon(reported) ? reported : null;
}

function isDaemon(pid: number): boolean {
  try {
    return /^(?:virtlockd|node|MainThread)/.test(nameOf(pid));
  } catch {
    return false;
  }
}
