/**
 * Whether the process of an owner lives, as far as that can be proven. A pid alone proves little: another process may have it by now,
 * and in another pid namespace it means another process.
 */
import { NO_PROCESS, type OwnerIdentity } from '../lockspace/owner.ts';
import type { ProcessHost } from './process-host.ts';

/** `absent`: no process has the pid, but it may be a number of another pid namespace: a C daemon does not hand on which. */
export type OwnerLife = 'alive' | 'dead' | 'absent' | 'unknown';

export function lifeOf(owner: OwnerIdentity, host: Pick<ProcessHost, 'startTime'>): OwnerLife {
  const { pid, startTime } = owner;
  if (isNobodyHere(owner)) return 'unknown';
  // No process had the pid when the lock was acquired. One that has it now is another.
  if (startTime === NO_PROCESS) return 'dead';
  const present = host.startTime(pid);
  if (present === undefined) return 'unknown';
  if (startTime === undefined) return present === null ? 'absent' : 'alive';
  return present === startTime ? 'alive' : 'dead';
}

/** Its pid names no process of this namespace: Xen's owners have pid 0, and others are of another pid namespace. */
export function isNobodyHere({ pid, isForeign }: OwnerIdentity): boolean {
  return pid === 0 || isForeign === true;
}
