/** The flags of ACQUIRE_RESOURCE, which the state document repeats, and what they mean to a lockspace. */
import { AcquireFlag } from '../../xdr/programs/lock.ts';
import type { LockMode } from './lockspaces.ts';

/** By the flags: one object for all resources that are acquired so, for there may be very many. */
const MODES: readonly LockMode[] = Array.from({ length: 4 }, (_, flags) => ({
  shared: (flags & AcquireFlag.SHARED) !== 0,
  autocreate: (flags & AcquireFlag.AUTOCREATE) !== 0,
}));

export function modeOf(flags: number): LockMode {
  const mode = MODES[flags & (AcquireFlag.SHARED | AcquireFlag.AUTOCREATE)];
  if (mode === undefined) throw new Error(`no mode for flags ${flags}`);
  return mode;
}

export function flagsOf({ shared, autocreate }: LockMode): number {
  return (shared ? AcquireFlag.SHARED : 0) | (autocreate ? AcquireFlag.AUTOCREATE : 0);
}
