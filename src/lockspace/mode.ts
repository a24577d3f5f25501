/** How a resource is acquired: the flags of ACQUIRE_RESOURCE, which the state document and virt-lockctl repeat. */
import { AcquireFlag } from '../../xdr/programs/lock.ts';

export interface LockMode {
  readonly flags: number;
  /** Others who share the resource may hold it as well. */
  readonly shared: boolean;
  /** The file is made if it is missing, and unlinked with the last hold. */
  readonly autocreate: boolean;
}

/** By the flags: one object for all resources that are acquired so, for there may be very many. */
const MODES: readonly LockMode[] = Array.from({ length: 4 }, (_, flags) => ({
  flags,
  shared: (flags & AcquireFlag.SHARED) !== 0,
  autocreate: (flags & AcquireFlag.AUTOCREATE) !== 0,
}));

export function modeOf(flags: number): LockMode {
  const mode = MODES[flags & (AcquireFlag.SHARED | AcquireFlag.AUTOCREATE)];
  if (mode === undefined) throw new Error(`no mode for flags ${flags}`);
  return mode;
}
