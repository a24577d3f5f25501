/** The daemon as the inquire program sees it. */
import type { Lockspaces } from '../lockspace/lockspaces.ts';
import type { LockClient } from '../lockd/client.ts';
import type { OwnerReaper } from '../lockd/owner-reaper.ts';
import type { Dialect } from '../libvirt/dialect.ts';
import type { Connection } from '../rpc/connection.ts';
import type { Server } from '../rpc/server.ts';
import type { Inquiry } from './inquiry.ts';
import type { Subscriber } from './subscriptions.ts';

export type ServerView<C> = Pick<Server<C>, 'name' | 'maxClients' | 'isFull' | 'clientCount' | 'adoptAll'>;

/** The past of the process. Times are milliseconds since 1970. */
export interface Life {
  /** The path that SIGUSR1 executes. */
  readonly program: string;
  /** When the process began to serve. */
  readonly started: number;
  /** When the process executed its present program. */
  readonly executed: number;
  /** How often the process executed itself again. */
  readonly restarts: number;
}

export interface InquireHost {
  readonly dialect: Dialect;
  readonly lockspaces: Lockspaces;
  readonly servers: readonly [ServerView<LockClient>, ServerView<Subscriber>];
  readonly life: Life;
  readonly descriptorLimit: number;
  readonly ownerReaper: Pick<OwnerReaper, 'count' | 'overdue'>;
  readonly inquiry: Inquiry;
}

/** The context of a handler: the connection, its subscription and the daemon. */
export interface InquireContext extends Subscriber {
  readonly connection: Connection;
  readonly host: InquireHost;
}
