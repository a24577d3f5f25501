/** Records changes of clients and of the daemon's settings before a client can see them, so that they outlive the daemon. */
import type { LockClient } from '../lockd/client.ts';
import type { Connection } from '../rpc/connection.ts';
import type { AdminPeer } from './daemon.ts';

/** No method may throw. */
export interface ClientRecorder {
  lockClientOpened(connection: Connection<LockClient>): void;
  adminClientOpened(connection: Connection<AdminPeer>): void;
  /** It has registered, or its state has changed otherwise. */
  lockClientChanged(connection: Connection<LockClient>): void;
  /** Its socket is still open. */
  lockClientClosed(connection: Connection<LockClient>): void;
  adminClientClosed(connection: Connection<AdminPeer>): void;
  /** A call of the client that may have changed settings has been served, and is not answered yet. */
  adminCallServed(connection: Connection<AdminPeer>): void;
  /** The set of storage helpers has changed. */
  helpersChanged(): void;
  /** The socket of a storage helper is about to be closed. */
  closing(fd: number): void;
}

const nothing = (): void => undefined;

export const NO_CLIENT_RECORDER: ClientRecorder = {
  lockClientOpened: nothing,
  adminClientOpened: nothing,
  lockClientChanged: nothing,
  lockClientClosed: nothing,
  adminClientClosed: nothing,
  adminCallServed: nothing,
  helpersChanged: nothing,
  closing: nothing,
};
