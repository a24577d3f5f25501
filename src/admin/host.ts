/**
 * What the admin program needs of the daemon it runs in. The handlers know servers, clients and logging by these
 * shapes only, so that they can be tested without a socket.
 */
import type { ByteString } from '../../xdr/codec.ts';
import type { Dialect } from '../libvirt/dialect.ts';

/** A connection, as the admin program sees it. */
export interface AdminClient {
  /** Counted from 1 for each server, and never used again. */
  readonly id: number;
  readonly fd: number;
  /** Seconds since 1970. */
  readonly connectedAt: number;
  readonly peer: { readonly pid: number; readonly uid: number; readonly gid: number };
  /** Whether it has made a call whose arguments could be decoded: C learns who a client is only then. */
  readonly isIdentified: boolean;
  /** Ends the connection at once, whatever waits to be sent. */
  close(): void;
  /** Ends the connection behind the reply to the present call. */
  closeAfterReply(): void;
}

/** How many clients a server takes. */
export interface ClientLimits {
  readonly maxClients: number;
  /** The most clients that wait for authentication: kept and told, but nobody waits, as there is no authentication. */
  readonly maxAnonymousClients: number;
}

/** A server: a socket with its clients and their limits. */
export interface AdminServer extends ClientLimits {
  readonly name: string;
  readonly clientCount: number;
  /** All clients by id, in the order in which they connected. Those left by a restart are adopted first. */
  adoptAll(): ReadonlyMap<number, AdminClient>;
  /** Workers reserved for urgent requests: kept and told as C does, but nothing is made of them. */
  priorityWorkers: number;
  /** Nobody is disconnected; accepting stops or goes on as the new limits want. */
  setLimits(limits: ClientLimits): void;
}

/** Log settings: how they are now, and how to change them. */
export interface AdminLogging {
  /** The outputs as stored, e.g. `1:file:/abs/path 4:stderr`, and how many they are. */
  readonly outputs: { readonly text: ByteString; readonly count: number };
  /** The filters as stored, e.g. `3:*rpc* `, and how many they are; empty text where there are none. */
  readonly filters: { readonly text: ByteString; readonly count: number };
  /** Replaces the outputs; empty: the default output. Throws a LogSettingError, with nothing changed. */
  setOutputs(text: ByteString): void;
  /** Replaces the filters; empty: none. Throws a LogSettingError, with nothing changed. */
  setFilters(text: ByteString): void;
  /** A restart carries the settings over. */
  isChanged: boolean;
}

/** The daemon, as the admin program sees it. */
export interface AdminHost {
  readonly dialect: Dialect;
  readonly servers: readonly AdminServer[];
  readonly logging: AdminLogging;
  /** Ends the daemon after so many seconds without client and lock; 0 keeps it. */
  setTimeout(seconds: number): void;
  /** Ends the daemon once the present call returns. */
  requestEnd(): void;
}

/** What a handler is given: who calls, and the daemon. */
export interface AdminContext {
  readonly connection: AdminClient;
  readonly host: AdminHost;
}
