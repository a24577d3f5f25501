/**
 * The daemon as the admin program sees it: the handlers know these interfaces only, and so can be tested without a socket.
 */
import type { ByteString } from '../../xdr/codec.ts';
import type { Dialect } from '../libvirt/dialect.ts';

export interface AdminClient {
  /** From 1 for each server, and never used again. */
  readonly id: number;
  readonly fd: number;
  /** Seconds since 1970. */
  readonly connectedAt: number;
  readonly peer: { readonly pid: number; readonly uid: number; readonly gid: number };
  /** Whether it has made a call whose arguments could be decoded: only then C knows the client's identity. */
  readonly isIdentified: boolean;
  /** Ends the connection at once, with replies unsent. */
  close(): void;
  /** Ends the connection after the reply to the present call. */
  closeAfterReply(): void;
}

export interface ClientLimits {
  readonly maxClients: number;
  /** The most clients that wait for authentication, of which there is none: kept and reported only. */
  readonly maxAnonymousClients: number;
}

export interface AdminServer extends ClientLimits {
  readonly name: string;
  readonly clientCount: number;
  /** All clients by id, in the order in which they connected. Those left by a restart are adopted first. */
  adoptAll(): ReadonlyMap<number, AdminClient>;
  /** Workers for urgent requests, of which there are none: kept and reported only. */
  priorityWorkers: number;
  /** Disconnects nobody; accepting stops or goes on by the new limits. */
  setLimits(limits: ClientLimits): void;
}

/** The log settings. */
export interface AdminLogging {
  /** E.g. `1:file:/abs/path 4:stderr`, and their number. */
  readonly outputs: { readonly text: ByteString; readonly count: number };
  /** E.g. `3:*rpc* `, and their number; empty text without any. */
  readonly filters: { readonly text: ByteString; readonly count: number };
  /** Replaces the outputs; empty: the default output. Throws a LogSettingError, with nothing changed. */
  setOutputs(text: ByteString): void;
  /** Replaces the filters; empty: none. Throws a LogSettingError, with nothing changed. */
  setFilters(text: ByteString): void;
  /** A restart carries the settings over. */
  isChanged: boolean;
}

export interface AdminHost {
  readonly dialect: Dialect;
  readonly servers: readonly AdminServer[];
  readonly logging: AdminLogging;
  /** Ends the daemon after so many seconds without client and lock; 0 keeps it. */
  setTimeout(seconds: number): void;
  /** Ends the daemon once the present call returns. */
  requestEnd(): void;
}

/** The context of a handler: the connection and the daemon. */
export interface AdminContext {
  readonly connection: AdminClient;
  readonly host: AdminHost;
}
