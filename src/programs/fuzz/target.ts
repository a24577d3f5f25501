/** What a sequence is run against. All of it is synchronous: a run is deterministic, and one thread does it. */
import type { Beginning, Model } from './model.ts';
import type { ServerName } from './steps.ts';

/** The client's end of a connection. */
export interface Link {
  /** The id that the daemon has for it. */
  readonly client: number;
  /** `descriptors`: so many are attached to the first byte. */
  send(bytes: Buffer, descriptors: number): void;
  /** What has come, after at most `limit` ms: bytes, `closed`, or null for nothing. */
  receive(limit: number): Buffer | 'closed' | null;
  /** Ends the sending side. */
  finish(): void;
  close(): void;
}

export interface Target {
  readonly name: string;
  /** The daemon's working directory: a run's paths are below it. */
  readonly base: string;
  /** The process that holds the locks. */
  readonly pid: number;
  /** The process that connections come from, as the daemon sees it. */
  readonly peer: number;
  /** How long an answer may take, in ms. */
  readonly patience: number;
  /** What the model has to know of it before a run. */
  readonly beginning: Beginning;
  /** A connection; null when the daemon takes none. */
  open(server: ServerName): Link | null;
  /** Whether it answers a ping: on a connection of its own when `anew` says so, else on one that stands. */
  answers(anew: boolean): boolean;
  /** Executes the daemon anew. What went wrong, or null. */
  restart(): string | null;
  /** Lets `ms` milliseconds pass; in one process nothing would happen meanwhile. */
  pause(ms: number): void;
  /** Has it send the events that it has gathered; false when that cannot be done from outside. */
  flushEvents(): boolean;
  /** Why it is not alive, or null. */
  death(): string | null;
  /** Its open descriptors. */
  descriptors(): number;
  /** Its resident memory in bytes. */
  memory(): number;
  /** Lockspaces that it knows from earlier runs. */
  readonly known: ReadonlySet<string>;
  /** Undoes what the run left, as the model has it; the run's connections are closed. */
  settle(model: Model): void;
  /** It cannot be brought back to how it was, but by a {@link reset}. */
  readonly isSpoilt: boolean;
  /** Begins anew, with no state. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}
