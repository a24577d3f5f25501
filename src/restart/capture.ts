/** Describes the running daemon as a state document. */
import type { AdminPeer, Daemon } from '../daemon/daemon.ts';
import type { LockClient } from '../lockd/client.ts';
import { flagsOf } from '../lockd/mode.ts';
import { descriptorOfReference, type HeldFile } from '../lockspace/files.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import { type Hold, NIL_UUID } from '../lockspace/owner.ts';
import type { Connection } from '../rpc/connection.ts';
import type { Server } from '../rpc/server.ts';
import {
  type ClientState,
  EMPTY_SERVER,
  type HoldState,
  type LockspaceState,
  type OwnerState,
  type OwnState,
  type ResourceState,
  type ServerState,
  type StateDocument,
} from './document.ts';
import type { ResourcePieces } from './resource-pieces.ts';

/** What the document names a client's or a listener's socket. */
function socketState(fd: number, isClient: boolean, unlinkUNIX: boolean): ClientState['sock'] {
  return { fd, errfd: -1, pid: 0, isClient, unlinkUNIX };
}

/** A client that has not registered is written with id 0 and without a name, which C reads but cannot write. */
function ownerState({ owner, restricted }: LockClient): OwnerState {
  return {
    restricted,
    ownerPid: owner?.pid ?? 0,
    ownerId: owner?.id ?? 0,
    ownerName: owner?.name ?? '',
    ownerUUID: owner?.uuid ?? NIL_UUID,
  };
}

/** What was captured of clients whose state has not changed since: the second capture of a restart is waited for. */
const captured = new WeakMap<
  Connection,
  {
    readonly owner: unknown;
    readonly restricted: boolean;
    readonly isLocal: boolean | undefined;
    readonly state: ClientState;
  }
>();

function lockClientState(connection: Connection<LockClient>): ClientState {
  return clientState(connection, connection.context);
}

function adminClientState(connection: Connection<AdminPeer>): ClientState {
  const { subscribed, missed } = connection.context;
  const state = clientState(connection, null);
  return subscribed ? { ...state, 'x-subscribed': true, 'x-missed': missed } : state;
}

function clientState(connection: Connection, client: LockClient | null): ClientState {
  const { received, unsent } = connection.pending;
  const { owner = null, restricted = false, isLocal } = client ?? {};
  const before = captured.get(connection);
  const idle = received.length + unsent.length === 0;
  const isKnown = before?.owner === owner && before.restricted === restricted && before.isLocal === isLocal;
  if (idle && isKnown) return before.state;
  const state = describeClient(connection, client);
  if (idle) captured.set(connection, { owner, restricted, isLocal, state });
  else captured.delete(connection);
  return state;
}

function describeClient(connection: Connection, client: LockClient | null): ClientState {
  const privateData = client === null ? null : ownerState(client);
  const isLocal = client?.isLocal;
  const { received, skip, unsent, closing } = connection.pending;
  return {
    id: connection.id,
    auth: 0,
    auth_pending: false,
    readonly: false,
    nrequests_max: 1,
    conn_time: connection.connectedAt,
    sock: socketState(connection.fd, true, false),
    privateData,
    ...(received.length + unsent.length === 0
      ? {}
      : {
          'x-received': received.toString('base64'),
          'x-skip': skip,
          'x-unsent': unsent.toString('base64'),
          ...(closing === true ? { 'x-closing': true } : {}),
        }),
    ...(isLocal === undefined ? {} : { 'x-local': isLocal }),
    ...(connection.peer.startTime === undefined ? {} : { 'x-start': connection.peer.startTime }),
  };
}

function serverState<C>(server: Server<C>, describe: (connection: Connection<C>) => ClientState): ServerState {
  return {
    ...EMPTY_SERVER,
    priority_workers: server.priorityWorkers,
    max_clients: server.maxClients,
    max_anonymous_clients: server.maxAnonymousClients,
    next_client_id: server.nextClientId,
    services: server.listeners.map(({ fd, unlink }) => ({
      auth: 0,
      readonly: false,
      nrequests_client_max: 1,
      socks: [socketState(fd, false, unlink)],
    })),
    clients: {
      *[Symbol.iterator](): Generator<ClientState> {
        for (const connection of server.adoptAll().values()) yield describe(connection);
      },
    },
  };
}

function holdState({ owner: { id, name, uuid, startTime, isForeign }, since, client, end }: Hold): HoldState {
  // What is undefined is left out of the document. To spread nothing would cost time, and there may be very many.
  return { id, name, uuid, since, client, start: startTime, foreign: isForeign, ending: end?.id };
}

/** @param counts how many resources that hold the file have been described already; counted up */
function resourceState({ name, path, file, mode, holds }: Resource, counts: Map<HeldFile, number>): ResourceState {
  const use = counts.get(file) ?? 0;
  if (file.references > 1) counts.set(file, use + 1);
  return {
    name,
    path,
    fd: descriptorOfReference(file, use),
    lockHeld: file.locked,
    flags: flagsOf(mode),
    owners: holds.map(({ owner }) => owner.pid),
    'x-holds': holds.map(holdState),
    'x-inode': file.key,
    // Once for all that hold the file.
    ...(use > 0 || file.deferredFds.length === 0 ? {} : { 'x-spares': [...file.deferredFds] }),
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
    lockServer: serverState(daemon.lockServer, lockClientState),
    adminServer: serverState(daemon.adminServer, adminClientState),
    lockspaces: {
      *[Symbol.iterator](): Generator<LockspaceState> {
        const counts = new Map<HeldFile, number>();
        const describe = (resource: Resource): ResourceState => resourceState(resource, counts);
        for (const lockspace of daemon.lockspaces) {
          const { directory, resources } = lockspace;
          const texts = pieces?.of(lockspace, (resource) => JSON.stringify(describe(resource)));
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

/**
 * Every descriptor that a document of the daemon names, each once.
 *
 * @param except of these clients none
 */
export function* descriptorsOf(
  { servers, lockspaces }: Daemon,
  own: OwnState,
  except: ReadonlySet<Connection> = new Set(),
): Generator<number> {
  for (const server of servers) {
    for (const { fd } of server.listeners) yield fd;
    for (const connection of server.adoptAll().values()) if (!except.has(connection)) yield connection.fd;
  }
  const shared = new Set<HeldFile>();
  for (const { file } of lockspaces.resources()) {
    if (file.references > 1) {
      if (shared.has(file)) continue;
      shared.add(file);
    }
    if (file.fd >= 0) yield file.fd;
    yield* file.deferredFds;
  }
  if (own.pidFile !== undefined) yield own.pidFile;
  yield* descriptorsOfOurs(own);
}

/** Those that a C daemon has no use for. */
export function* descriptorsOfOurs({ epoll, ending = [] }: OwnState): Generator<number> {
  if (epoll !== undefined) yield epoll;
  for (const { pidfd, socket } of ending) for (const fd of [pidfd, socket]) if (fd !== undefined) yield fd;
}
