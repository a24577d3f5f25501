/** What a sequence is run against. All of it is synchronous: a run is deterministic, and one thread does it. */

/** The client's end of a connection. */
export interface Link {
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
  /** A connection; null when the daemon takes none. */
  open(): Link | null;
  /** Executes the daemon anew. What went wrong, or null. */
  restart(): string | null;
  /** Why it is not alive, or null. */
  death(): string | null;
  /** Its open descriptors. */
  descriptors(): number;
  /** Its resident memory in bytes. */
  memory(): number;
  /** Lockspaces that it knows from earlier runs. */
  readonly known: ReadonlySet<string>;
  /** Gives up what the run left held; the connections are closed. `lockspaces` are those that it knows now. */
  settle(
    held: readonly { lockspace: string; name: string; owners: readonly number[] }[],
    lockspaces: readonly string[],
  ): void;
  /** Begins anew, with no state. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}
