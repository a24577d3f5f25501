/** State of lock clients and of the ends of owners that outlives a restart. */
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

/** The registration of a lock client. The id is 0 before it registers, which C reads but never writes. */
export const registration = object({
  restricted: boolean,
  ownerPid: u32,
  ownerId: u32,
  ownerName: text,
  ownerUUID: uuid,
});

/** Whether the peer of a lock client is in the daemon's pid namespace. */
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

/** Evidence of an owner's process. Without any, the owner is known to be gone only once no process has its pid. */
const evidenceFields = {
  /** The socket, shut down, of its own connection. */
  socket: optional(descriptor),
  /** When its process started, in clock ticks since boot. */
  startTime: optional(startTime),
  /** A pidfd, watched until the process is gone. */
  pidfd: optional(descriptor),
  /** The pidfd is the owner's for certain, not only that of a process with its pid. */
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
  /** The log has it that the owner could not be killed. */
  reported: optional(boolean),
});

/** An owner without a connection, whose process is watched instead. */
export const watchedOwner = object({
  pid: u32,
  /** Undefined until the process is found, and where the service manager had no room for it. */
  pidfd: optional(descriptor),
  /** When the process started, if that is known. */
  startTime: optional(startTime),
  /** Id of the last client that was connected when it was first watched: a later one with its pid may be another process. */
  client: optional(whole),
});
export type WatchedOwner = StateOf<typeof watchedOwner>;

/** A process whose own connection has ended, and of which it is not known yet which locks it holds. */
export const doubtfulPeer = object({
  pid: u32,
  /** Of the connection: its id, its owner's name, and its socket, shut down. */
  client: whole,
  name: text,
  socket: descriptor,
  /** When the process started, if that is known. */
  startTime: optional(startTime),
});
export type DoubtfulPeer = StateOf<typeof doubtfulPeer>;

/** The processes that had the locks one after the other, up to this one. */
export const origin = object({
  /** The first was a C daemon if this is not 0: clients with ids below this were connected when the next one took over. */
  clients: whole,
  /** When the first started, in clock ticks since boot. Absent where that is not known, or owners may be of another pid namespace. */
  start: optional(startTime),
});
export type Origin = StateOf<typeof origin>;

export type OwnerEndState = StateOf<typeof ownerEnd>;
