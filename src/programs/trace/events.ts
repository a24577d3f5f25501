/** The events of a trace. */
import type { Plain } from './walk.ts';

export type Side = 'client' | 'daemon';

export function otherSide(side: Side): Side {
  return side === 'client' ? 'daemon' : 'client';
}

export interface Stamp {
  /** Microseconds since 1970, or in some files since midnight or since the first line. NaN if unknown. */
  readonly micros: number;
  /** Whether `micros` counts from 1970. */
  readonly isAbsolute: boolean;
}

/** The client's process; -1 for unknown numbers. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Its name, as in ps; empty if unknown. */
  readonly program: string;
}

export interface Undecoded {
  readonly bytes: Buffer;
  readonly reason: string;
}

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
  /** In bytes, including the length word. */
  readonly length: number;
  /** Arguments, results, an event's payload or an error's; undefined if the procedure is unknown. */
  readonly payload: Plain | undefined;
  readonly isError: boolean;
  /** Of a reply: microseconds since its call; undefined if the call or its time is unknown. */
  readonly tookMicros: number | undefined;
  /** The number of announced descriptors. */
  readonly descriptors: number;
  /** The rest of the payload, if it could not be decoded. */
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
  /** Descriptors were attached. */
  | (Common & { readonly kind: 'descriptors'; readonly from: Side; readonly count: number })
  /** A side sends no more. */
  | (Common & { readonly kind: 'end'; readonly from: Side })
  | (Common & { readonly kind: 'note'; readonly text: string });

export type Sink = (event: TraceEvent) => void;
