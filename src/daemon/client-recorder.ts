/** Who writes down what outlives the daemon of its clients and of itself, before anybody hears of it. */
import type { LockClient } from '../lockd/client.ts';
import type { Connection } from '../rpc/connection.ts';
import type { AdminPeer } from './daemon.ts';

/** Nothing may be thrown. */
export interface ClientRecorder {
  lockClientOpened(connection: Connection<LockClient>): void;
  adminClientOpened(connection: Connection<AdminPeer>): void;
  /** What it registered, or what is known of it. */
  lockClientChanged(connection: Connection<LockClient>): void;
  /** Its socket is open still. */
  lockClientClosed(connection: Connection<LockClient>): void;
  adminClientClosed(connection: Connection<AdminPeer>): void;
  /** A call has been served that may have changed settings, and is not answered yet. */
  settingsChanged(): void;
}

const nothing = (): void => undefined;

export const NO_CLIENT_RECORDER: ClientRecorder = {
  lockClientOpened: nothing,
  adminClientOpened: nothing,
  lockClientChanged: nothing,
  lockClientClosed: nothing,
  adminClientClosed: nothing,
  settingsChanged: nothing,
};
