/** Who holds what. */
import type { ByteString } from '../../xdr/codec.ts';

/** An owner as it registered: a guest's process. Shared by everything that it holds. */
export interface OwnerIdentity {
  readonly pid: number;
  readonly id: number;
  readonly name: ByteString;
  /** 16 bytes as 32 hexadecimal digits in groups of 8-4-4-4-12. */
  readonly uuid: string;
  /**
   * When the process that had the pid at the first acquire started, in clock ticks since the host's boot; {@link NO_PROCESS}.
   * Undefined where that is not known, and for an owner that called itself: its connection tells which process it is.
   */
  startTime?: number;
  /** Its pid is a number of another pid namespace: it means nothing here. */
  isForeign?: boolean;
}

/** As {@link OwnerIdentity.startTime}: no process had the pid. */
export const NO_PROCESS = -1;

/** The end of an owner, as whoever asks for its locks sees it: they are held until its process is gone. */
export interface HoldEnd {
  /** Tells it from the daemon's other ends, also after a re-execution. */
  readonly id: number;
  /** Callers wait for it, as C has everybody wait: until the process is gone, for 3 s at most. */
  readonly isAwaited: boolean;
  /** The process is gone; what it held is released in a moment, if it is not yet. */
  readonly isGone: boolean;
  /** Calls `done` once, when it is not awaited any more and, if the process is gone, what it held is released. Returns what forgets that. */
  wait(done: () => void): () => void;
}

/** One hold of an owner on a resource. An owner that shares a resource may have several. */
export interface Hold {
  /** Replaced, when the hold is granted, by the same identity that the owner's other holds have. */
  owner: OwnerIdentity;
  /** Milliseconds since 1970; 0 when it was taken over from a daemon that did not say. */
  readonly since: number;
  /** Id of the connection it was acquired through; 0 when unknown. */
  readonly client: number;
  /** Its owner is being ended; absent from the many others, for what it would take. */
  end?: HoldEnd;
  /** The round of the poller in which its call was read, where that is written down. */
  round?: number;
  /** The daemon died before it was known whether the owner has heard of it: the owner's next call of the same kind is granted as this one. */
  unanswered?: boolean;
}

/** Whether both have registered with the same details. */
export function isSameRegistration(one: OwnerIdentity, other: OwnerIdentity): boolean {
  return one.pid === other.pid && one.id === other.id && one.name === other.name && one.uuid === other.uuid;
}

/** Whether both have the same details and are known to be one process: what is not known may be added to either. */
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

/** The identity of an owner of whom only the pid is known, as a C daemon's state document leaves it. */
export function unknownOwner(pid: number): OwnerIdentity {
  return { pid, id: 0, name: '', uuid: NIL_UUID };
}

export const NIL_UUID = '00000000-0000-0000-0000-000000000000';
