/** What a trace consists of. */
import type { Plain } from './walk.ts';

/** Who sent something. */
export type Side = 'client' | 'daemon';

export function otherSide(side: Side): Side {
  return side === 'client' ? 'daemon' : 'client';
}

/** A moment. */
export interface Stamp {
  /** Microseconds since 1970; or since midnight, or since whenever, where a file tells no more. NaN: not known. */
  readonly micros: number;
  /** Whether they are since 1970. */
  readonly isAbsolute: boolean;
}

/** The client's process. -1: not known. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Its name, as ps shows it; empty where it is not known. */
  readonly program: string;
}

/** Bytes that could not be decoded, and why. */
export interface Undecoded {
  readonly bytes: Buffer;
  readonly reason: string;
}

/** A decoded message. */
export interface Decoded {
  readonly form: 'call' | 'reply' | 'event' | 'other';
  /** Such as `lock.acquireResource`. */
  readonly name: string;
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly type: number;
  readonly serial: number;
  readonly status: number;
  /** In bytes, with the length word. */
  readonly length: number;
  /** Arguments, results, an event's payload, or an error's; undefined where it is not known what they are. */
  readonly payload: Plain | undefined;
  /** The payload is an error. */
  readonly isError: boolean;
  /** Of a reply: microseconds since its call; undefined when there was none, or no time is known. */
  readonly tookMicros: number | undefined;
  /** Descriptors announced. */
  readonly descriptors: number;
  /** What of the payload could not be decoded, or stands behind what was. */
  readonly undecoded: Undecoded | undefined;
}

interface Common {
  readonly time: Stamp;
  readonly connection: number;
  readonly peer: Peer;
}

export type TraceEvent =
  | (Common & { readonly kind: 'open' | 'close' })
  | (Common & { readonly kind: 'message'; readonly from: Side; readonly message: Decoded })
  | (Common & { readonly kind: 'undecoded'; readonly from: Side; readonly undecoded: Undecoded })
  /** Descriptors that came with bytes. */
  | (Common & { readonly kind: 'descriptors'; readonly from: Side; readonly count: number })
  /** A side sends no more. */
  | (Common & { readonly kind: 'end'; readonly from: Side })
  | (Common & { readonly kind: 'note'; readonly text: string });

export type Sink = (event: TraceEvent) => void;
