/** The target of a sequence. All of it is synchronous, so that a run is deterministic. */
import type { Beginning, Model } from './model.ts';
import type { ServerName } from './steps.ts';

/** The client's end of a connection. */
export interface Link {
  /** Its client id in the daemon. */
  readonly client: number;
  /** `descriptors`: the number to attach to the first byte. */
  send(bytes: Buffer, descriptors: number): void;
  /** Waits at most `limit` ms for bytes; `closed` at the end, null when nothing comes. */
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
  /** The longest time for an answer, in ms. */
  readonly patience: number;
  /** Its state before a run, for the model. */
  readonly beginning: Beginning;
  /** A connection; null when the daemon takes none. */
  open(server: ServerName): Link | null;
  /** Whether it answers a ping, on a new connection if `byNewcomer`, else on a lasting one. */
  answers(byNewcomer: boolean): boolean;
  /** Has the daemon execute its program again. Returns the problem, or null. */
  restart(): string | null;
  /** Waits so many ms; not in one process, where nothing would happen. */
  pause(ms: number): void;
  /** Has it send its gathered events; false when that is impossible from outside. */
  flushEvents(): boolean;
  /** How it is dead, or null. */
  death(): string | null;
  /** Its open descriptors. */
  descriptors(): number;
  /** Its resident memory in bytes. */
  memory(): number;
  /** Its lockspaces of earlier runs. */
  readonly known: ReadonlySet<string>;
  /** Undoes the changes of a run, which the model knows; the run's connections are closed. */
  undo(model: Model): void;
  /** Only {@link reset} can undo the changes of the last run. */
  readonly isSpoilt: boolean;
  /** Begins again without state. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}
