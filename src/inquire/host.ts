/** What the inquire program sees of the daemon. */
import type { Lockspaces } from '../lockspace/lockspaces.ts';
import type { LockClient } from '../lockd/client.ts';
import type { Connection } from '../rpc/connection.ts';
import type { VersionNumber } from '../libvirt/dialect.ts';
import type { Server } from '../rpc/server.ts';

/** What is told of a server. */
export type ServerView<C> = Pick<Server<C>, 'name' | 'maxClients' | 'isFull'> & {
  readonly clients: ReadonlyMap<number, { readonly connection: Connection; readonly context: C }>;
};

/** Of the process and its program. Times are milliseconds since 1970. */
export interface Life {
  /** The path that SIGUSR1 executes. */
  readonly program: string;
  /** When the process began to serve. */
  readonly started: number;
  /** When it executed its present program. */
  readonly executed: number;
  /** How often it executed itself again. */
  readonly restarts: number;
}

/** A client of the admin server. */
export interface AdminClient {
  readonly connection: Connection;
}

export interface InquireHost {
  readonly version: VersionNumber;
  readonly lockspaces: Lockspaces;
  readonly servers: readonly [ServerView<LockClient>, ServerView<AdminClient>];
  readonly life: Life;
  readonly descriptorLimit: number;
  /** Owners that are being killed at present. */
  killing(): number;
  /** One line for each owner that could not be ended, and keeps its locks. */
  unkillable(): string[];
}
