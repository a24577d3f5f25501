/** Owners and their holds. */
import type { ByteString } from '../../xdr/codec.ts';

/** An owner as it registered: a guest's process. All its holds share this. */
export interface OwnerIdentity {
  readonly pid: number;
  readonly id: number;
  readonly name: ByteString;
  /** 16 bytes as 32 hexadecimal digits in groups of 8-4-4-4-12. */
  readonly uuid: string;
  /**
   * Start time, in clock ticks since the host's boot, of the process that had the pid at the first acquire, or {@link NO_PROCESS}.
   * Undefined where it is unknown, and for an owner that called itself: its connection identifies the process.
   */
  startTime?: number;
  /** Its pid is of another pid namespace, and means nothing here. */
  isForeign?: boolean;
}

/** As {@link OwnerIdentity.startTime}: no process had the pid. */
export const NO_PROCESS = -1;

/** The end of an owner, whose locks are held until its process is gone, as seen by callers that ask for these. */
export interface HoldEnd {
  /** Unique, also after a re-execution. */
  readonly id: number;
  /** Callers wait, as C has everybody wait: until the process is gone, for 3 s at most. */
  readonly isAwaited: boolean;
  /** The process is gone; its holds are released within the next slices. */
  readonly isGone: boolean;
  /**
   * Calls `done` once, when callers need not wait any more and, if the process is gone, its holds are released. Returns a function
   * that cancels the call.
   */
  wait(done: () => void): () => void;
}

/** One hold of an owner on a resource. An owner that shares a resource may have several. */
export interface Hold {
  /** When the hold is granted, replaced by the equal identity that the owner's other holds share. */
  owner: OwnerIdentity;
  /** Milliseconds since 1970; 0 when the daemon it was adopted from did not say. */
  readonly since: number;
  /** Id of the connection it was acquired through; 0 when unknown. */
  readonly client: number;
  /** Its owner is being ended. Left out otherwise, to save memory. */
  end?: HoldEnd;
  /** The poller's round in which its acquire was read; undefined without a record. */
  round?: number;
  /**
   * The daemon died and may not have answered the acquire, or a release may be lost with a connection that it had just accepted. The same
   * acquire of the same owner is granted as this hold.
   */
  unanswered?: boolean;
}

/** The number of processes that have these holds, without those of pid 0. */
export function countOwners(holds: readonly Hold[]): number {
  return new Set(holds.flatMap(({ owner: { pid, startTime } }) => (pid > 0 ? [`${pid} ${startTime}`] : []))).size;
}

/** What becomes of the owners when they are to be ended, for a text. Nothing is signalled by a number that means no process here. */
export function describeEnd(holds: readonly Hold[]): string {
  const here = holds.filter(({ owner: { pid, isForeign } }) => pid > 0 && isForeign !== true);
  if (here.length === holds.length) return 'are ended';
  if (here.length > 0) return 'are ended, but for those whose pids name no process here';
  return 'go on, for their pids name no process here';
}

/** The most owners that a text names. */
const MAX_NAMED = 5;

/** `3001 (db), 3002 (web) and 7 more`. */
export function nameOwners(holds: readonly Hold[]): string {
  const named = holds.slice(0, MAX_NAMED).map(({ owner }) => `${owner.pid} (${owner.name})`);
  const more = holds.length - named.length;
  return `${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Whether both have registered with the same details. */
export function isSameRegistration(one: OwnerIdentity, other: OwnerIdentity): boolean {
  return one.pid === other.pid && one.id === other.id && one.name === other.name && one.uuid === other.uuid;
}

/** Whether both have the same details and are known to be one process. One without a start time may still get one. */
export function isSameOwner(one: OwnerIdentity, other: OwnerIdentity): boolean {
  return (
    one === other ||
    (one.startTime !== undefined &&
      one.id === other.id &&
      one.name === other.name &&
      one.uuid === other.uuid &&
      one.startTime === other.startTime &&
      one.isForeign === other.isForeign)
  );
}

/** The identity of an owner of a C daemon's state document, which has the pid alone. */
export function unknownOwner(pid: number): OwnerIdentity {
  return { pid, id: 0, name: '', uuid: NIL_UUID };
}

export const NIL_UUID = '00000000-0000-0000-0000-000000000000';
