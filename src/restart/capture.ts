/** Describes the running daemon as a state document. */
import type { AdminPeer, Daemon } from '../daemon/daemon.ts';
import { subscriptionState } from '../inquire/state.ts';
import type { LockClient } from '../lockd/client.ts';
import { registrationState } from '../lockd/state.ts';
import type { HeldFile } from '../lockspace/files.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import { resource, resourceState, type ResourceState } from '../lockspace/state.ts';
import type { Connection } from '../rpc/connection.ts';
import type { Server } from '../rpc/server.ts';
import { connectionState, serverState } from '../rpc/state.ts';
import { type Whole, write } from '../state/state.ts';
import {
  type AdminClientState,
  type LockClientState,
  type LockspaceState,
  type OwnState,
  type ServerState,
  type StateDocument,
} from './document.ts';
import type { ResourcePieces } from './resource-pieces.ts';

/** What was captured of lock clients whose state has not changed since: the second capture of a restart is waited for. */
const captured = new WeakMap<
  Connection,
  Readonly<Pick<LockClient, 'owner' | 'restricted' | 'isLocal'>> & { readonly state: LockClientState }
>();

export function lockClientState(connection: Connection<LockClient>): LockClientState {
  const client = connection.context;
  const { received, unsent } = connection.pending;
  const { owner, restricted, isLocal } = client;
  const before = captured.get(connection);
  const idle = received.length + unsent.length === 0;
  const isKnown = before?.owner === owner && before.restricted === restricted && before.isLocal === isLocal;
  if (idle && isKnown) return before.state;
  const state: Whole<LockClientState> = {
    ...connectionState(connection),
    'x-local': isLocal,
    privateData: registrationState(client),
  };
  if (idle) captured.set(connection, { owner, restricted, isLocal, state });
  else captured.delete(connection);
  return state;
}

export function adminClientState(connection: Connection<AdminPeer>): Whole<AdminClientState> {
  return { ...connectionState(connection), ...subscriptionState(connection.context), privateData: null };
}

function serverWithClients<C, S>(server: Server<C>, describe: (connection: Connection<C>) => S): ServerState<S> {
  return {
    ...serverState(server),
    clients: {
      *[Symbol.iterator](): Generator<S> {
        for (const connection of server.adoptAll().values()) yield describe(connection);
      },
    },
  };
}

/**
 * The document of everything the daemon has. What it says of clients and resources is true of the moment at which it is asked
 * for each: there may be a hundred thousand, and nobody is to wait for all of these.
 *
 * @param pieces what is known of resources from before
 */
export function captureState(daemon: Daemon, own: OwnState, pieces?: ResourcePieces): StateDocument {
  return {
    magic: String(process.pid),
    lockServer: serverWithClients(daemon.lockServer, lockClientState),
    adminServer: serverWithClients(daemon.adminServer, adminClientState),
    lockspaces: {
      *[Symbol.iterator](): Generator<LockspaceState> {
        const counts = new Map<HeldFile, number>();
        const describe = (resource: Resource): ResourceState => resourceState(resource, counts);
        for (const lockspace of daemon.lockspaces) {
          const { directory, resources } = lockspace;
          const texts = pieces?.of(lockspace, (one, descriptors) => write(resource, describe(one), descriptors));
          yield {
            directory,
            resources: mapped(resources.values(), describe),
            ...(texts === undefined ? {} : { texts }),
          };
        }
      },
    },
    own,
  };
}

function* mapped<T, U>(items: Iterable<T>, change: (item: T) => U): Generator<U> {
  for (const item of items) yield change(item);
}
