/** Describes the running daemon as a state document. */
import type { AdminPeer, Daemon } from '../daemon/daemon.ts';
import { LockClient } from '../lockd/client.ts';
import { descriptorOfUse, type HeldFile } from '../lockspace/files.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import { NIL_UUID } from '../lockspace/owner.ts';
import type { Connection } from '../rpc/connection.ts';
import type { Server } from '../rpc/server.ts';
import {
  type ClientState,
  EMPTY_SERVER,
  type OwnerState,
  type OwnState,
  type ResourceState,
  type ServerState,
  type StateDocument,
} from './document.ts';

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
  { readonly owner: unknown; readonly restricted: boolean; readonly state: ClientState }
>();

function clientState(connection: Connection, client: LockClient | null): ClientState {
  const { received, unsent } = connection.backlog;
  const { owner = null, restricted = false } = client ?? {};
  const before = captured.get(connection);
  const idle = received.length + unsent.length === 0;
  if (idle && before?.owner === owner && before.restricted === restricted) return before.state;
  const state = describeClient(connection, client === null ? null : ownerState(client));
  if (idle) captured.set(connection, { owner, restricted, state });
  else captured.delete(connection);
  return state;
}

function describeClient(connection: Connection, privateData: OwnerState | null): ClientState {
  const { received, skip, unsent } = connection.backlog;
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
        }),
    ...(connection.subscribed ? { 'x-subscribed': true } : {}),
  };
}

function serverState(server: Server<LockClient> | Server<AdminPeer>): ServerState {
  const clients: ClientState[] = [];
  for (const { connection, context } of server.clients.values()) {
    clients.push(clientState(connection, context instanceof LockClient ? context : null));
  }
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
    clients,
  };
}

/** @param uses how many resources that hold the file have been described already; counted up */
function resourceState({ name, path, file, flags, holds }: Resource, uses: Map<HeldFile, number>): ResourceState {
  const use = uses.get(file) ?? 0;
  uses.set(file, use + 1);
  return {
    name,
    path,
    fd: descriptorOfUse(file, use),
    lockHeld: true,
    flags,
    owners: holds.map(({ owner }) => owner.pid),
    'x-holds': holds.map(({ owner: { id, name, uuid }, since, client }) => ({ id, name, uuid, since, client })),
    'x-inode': file.key,
    ...(file.spares.length === 0 ? {} : { 'x-spares': [...file.spares] }),
  };
}

/** The document of everything the daemon has, at a moment when nothing is in progress. */
export function captureState(daemon: Daemon, own: OwnState): StateDocument {
  const uses = new Map<HeldFile, number>();
  const lockspaces = [...daemon.lockspaces].map(({ directory, resources }) => ({
    directory,
    resources: [...resources.values()].map((resource) => resourceState(resource, uses)),
  }));
  const [defaultLockspace, ...others] = lockspaces;
  return {
    magic: String(process.pid),
    lockServer: serverState(daemon.lockServer),
    adminServer: serverState(daemon.adminServer),
    defaultResources: defaultLockspace?.resources ?? [],
    lockspaces: others,
    own,
  };
}

/** Every descriptor that the next program needs, each once; of clients only those that are not among `except`. */
export function descriptorsOf(
  { lockServer, adminServer, defaultResources, lockspaces, own }: StateDocument,
  except: ReadonlySet<ClientState> = new Set(),
): Set<number> {
  const descriptors = new Set<number>();
  for (const server of adminServer === null ? [lockServer] : [lockServer, adminServer]) {
    for (const { socks } of server.services) for (const { fd } of socks) descriptors.add(fd);
    for (const client of server.clients) if (!except.has(client)) descriptors.add(client.sock.fd);
  }
  for (const resources of [defaultResources, ...lockspaces.map((lockspace) => lockspace.resources)]) {
    for (const { fd, 'x-spares': spares = [] } of resources) for (const one of [fd, ...spares]) descriptors.add(one);
  }
  for (const fd of [own?.pidFile, own?.epoll]) if (fd !== undefined) descriptors.add(fd);
  return descriptors;
}
