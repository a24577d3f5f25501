/**
 * What the kernel tells of other processes. Every answer may be `undefined`: it could not be found out (no descriptor, no
 * permission, no /proc), which is not the same as "no".
 */
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { posix } from '../posix/posix.ts';

const { ESRCH } = os.constants.errno;
const PID_MAX = 0x7fffffff;

/**
 * When the process that has this pid now started, in clock ticks since the host's boot: with the pid it names a process for
 * good. Null when no process has the pid.
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

/** Whether the process that has this pid now is in the daemon's pid namespace, and not in one below it. */
export function isLocalProcess(pid: number): boolean | undefined {
  // A process has one number in each namespace from the reader's down to its own.
  const numbers = /^NSpid:\s*(.+)$/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1];
  return numbers === undefined ? undefined : !/\s/.test(numbers.trim());
}

/** The id of the host's present boot; empty where it is not readable. */
export function bootId(): string {
  return read('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return undefined;
  }
}
