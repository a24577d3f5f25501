/** The daemon as the inquire program sees it. */
import type { Lockspaces } from '../lockspace/lockspaces.ts';
import type { LockWatch } from '../lockspace/lock-watch.ts';
import type { LockClient } from '../lockd/client.ts';
import type { OwnerReaper } from '../lockd/owner-reaper.ts';
import type { ProcessHost } from '../lockd/process-host.ts';
import type { Dialect } from '../libvirt/dialect.ts';
import type { Connection } from '../rpc/connection.ts';
import type { Server } from '../rpc/server.ts';
import type { Storages } from '../storage/storages.ts';
import type { EtcdView } from './etcd.ts';
import type { Inquiry } from './inquiry.ts';
import type { LastDeath } from './state.ts';
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
  /** How often the process executed itself again, or left all to the next one. */
  readonly restarts: number;
  /** How often a daemon has died before this process took over from it. */
  readonly deaths: number;
}

/** Whether what the daemon has would outlive its death: see restart/survival.ts. */
export interface SurvivalView {
  /** Undefined: it is not known whether there is a descriptor store. */
  readonly hasStore: boolean | undefined;
  /** How many descriptors it takes; 0: not known. Locked files are one of them, together. */
  readonly limit: number;
  /** How many should be in it, and how many of these are not, as far as is known. */
  readonly stored: number;
  readonly missing: number;
  /** Locks that would end with the process: on file systems that may hang, and others. */
  readonly mortalRemote: number;
  readonly mortalLocal: number;
  /** Bytes of memory that the record takes. */
  readonly memory: number;
}

export interface InquireHost {
  readonly dialect: Dialect;
  readonly lockspaces: Lockspaces;
  readonly servers: readonly [ServerView<LockClient>, ServerView<Subscriber>];
  readonly life: Life;
  readonly lastDeath: LastDeath | undefined;
  readonly descriptorLimit: number;
  readonly ownerReaper: Pick<OwnerReaper, 'count' | 'overdue' | 'pidsWatched' | 'releaseDead'>;
  readonly processes: Pick<ProcessHost, 'startTime'>;
  readonly inquiry: Inquiry;
  readonly storages: Pick<Storages, 'views'>;
  /** Null: no lockspace is kept in etcd. */
  readonly etcd: EtcdView | null;
  readonly lockWatch: Pick<LockWatch, 'stateOf' | 'awaitAnswers' | 'lost' | 'unknownCount'>;
  /** Null where there is no service manager. */
  readonly survival: SurvivalView | null;
}

/** The context of a handler: the connection, its subscription and the daemon. */
export interface InquireContext extends Subscriber {
  readonly connection: Connection;
  readonly host: InquireHost;
}
