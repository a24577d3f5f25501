/** What of lock clients and of the ends of owners outlives a restart. */
import { NIL_UUID } from '../lockspace/owner.ts';
import {
  boolean,
  descriptor,
  object,
  type ObjectOf,
  optional,
  startTime,
  type StateOf,
  text,
  u32,
  uuid,
  type Whole,
  whole,
} from '../state/state.ts';
import type { LockClient } from './client.ts';

/** What a lock client registered. One that has not has the id 0, which C reads but cannot write. */
export const registration = object({
  restricted: boolean,
  ownerPid: u32,
  ownerId: u32,
  ownerName: text,
  ownerUUID: uuid,
});

/** Of a lock client, beside its registration: whether its peer is in the daemon's pid namespace. */
export const localityFields = { 'x-local': optional(boolean) };

export function registrationState({ owner, restricted }: LockClient): Whole<StateOf<typeof registration>> {
  return {
    restricted,
    ownerPid: owner?.pid ?? 0,
    ownerId: owner?.id ?? 0,
    ownerName: owner?.name ?? '',
    ownerUUID: owner?.uuid ?? NIL_UUID,
  };
}

/** What tells which process an owner is. With nothing of it, the owner is only known to be gone when nobody has its pid. */
const evidenceFields = {
  /** The socket of its own connection, shut down. */
  socket: optional(descriptor),
  /** When its process started, in clock ticks since boot. */
  startTime: optional(startTime),
  /** A pidfd, watched until it says that the process is gone. */
  pidfd: optional(descriptor),
  /** The pidfd is the owner's, and not only that of whoever had its pid when it was opened. */
  isProcess: optional(boolean),
};

export type Evidence = ObjectOf<typeof evidenceFields>;

/** An owner that is being ended. Times are those of ProcessHost.now. */
export const ownerEnd = object({
  id: whole,
  pid: u32,
  name: text,
  began: whole,
  ...evidenceFields,
  termSent: optional(whole),
  killSent: optional(boolean),
  /** The log says that the owner could not be ended. */
  reported: optional(boolean),
});
/** An owner without a connection, by whose process its end is known. */
export const watchedOwner = object({ pid: u32, pidfd: descriptor });
export type WatchedOwner = StateOf<typeof watchedOwner>;

export type OwnerEndState = StateOf<typeof ownerEnd>;
