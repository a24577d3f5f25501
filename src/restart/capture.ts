/** Describes the running daemon as a state document. */
import type { AdminPeer, Daemon } from '../daemon/daemon.ts';
import type { OwnState } from '../daemon/state.ts';
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
  lockClient,
  mapped,
  type ServerState,
  type StateDocument,
} from './document.ts';
import type { ResourcePieces } from './resource-pieces.ts';

/** The text of a lock client, valid while these fields stay: the second description of a restart has clients waiting. */
interface Captured extends Readonly<Pick<LockClient, 'owner' | 'restricted' | 'isLocal'>> {
  readonly text: string;
  readonly descriptors: ReadonlySet<number>;
}

const captured = new WeakMap<Connection, Captured>();

export function lockClientState(connection: Connection<LockClient>): Whole<LockClientState> {
  const client = connection.context;
  return { ...connectionState(connection), 'x-local': client.isLocal, privateData: registrationState(client) };
}

function lockClientText(connection: Connection<LockClient>, descriptors: Set<number>): string {
  const { owner, restricted, isLocal } = connection.context;
  const { received, unsent } = connection.pending;
  const isIdle = received.length + unsent.length === 0;
  let known = captured.get(connection);
  if (!isIdle || known?.owner !== owner || known.restricted !== restricted || known.isLocal !== isLocal) {
    const named = new Set<number>();
    const text = write(lockClient, lockClientState(connection), named);
    known = { owner, restricted, isLocal, text, descriptors: named };
    if (isIdle) captured.set(connection, known);
    else captured.delete(connection);
  }
  for (const fd of known.descriptors) descriptors.add(fd);
  return known.text;
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
 * The document of the whole daemon. It describes clients and resources lazily, each as it is when its turn comes: there may be a
 * hundred thousand.
 *
 * @param pieces the text of resources, from an earlier description
 */
export function captureState(daemon: Daemon, own: OwnState, pieces?: ResourcePieces): StateDocument {
  return {
    magic: String(process.pid),
    lockServer: {
      ...serverWithClients(daemon.lockServer, lockClientState),
      texts: (descriptors) =>
        mapped(daemon.lockServer.adoptAll().values(), (connection) => lockClientText(connection, descriptors)),
    },
    adminServer: serverWithClients(daemon.adminServer, adminClientState),
    lockspaces: {
      *[Symbol.iterator](): Generator<LockspaceState> {
        const described = new Map<HeldFile, Iterator<number, never>>();
        const describe = (resource: Resource): ResourceState => resourceState(resource, described);
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
