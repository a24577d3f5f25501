/**
 * Adopts what a state document describes, after a check of every entry: a descriptor must be the socket or the file that the document
 * says it is. Locks are not requested again, which could hang or fail: see confirm.ts.
 */
import { type AdminPeer, Daemon, type DaemonSettings, type ServerShape } from '../daemon/daemon.ts';
import { BACKLOG } from '../rpc/listen.ts';
import { logger } from '../log/log.ts';
import {
  adoptFile,
  adoptRemote,
  adoptWithout,
  type HeldFile,
  inodeOf,
  deferClose,
  restoreReference,
} from '../lockspace/files.ts';
import type { Lockspace, Rest } from '../lockspace/lockspaces.ts';
import { Release } from '../lockspace/release.ts';
import { type Hold, unknownOwner, type OwnerIdentity } from '../lockspace/owner.ts';
import { posix, SocketKind, strerror } from '../posix/posix.ts';
import { isLocalType, Mounts } from '../proc/mounts.ts';
import type { LockClient } from '../lockd/client.ts';
import { modeOf } from '../lockspace/mode.ts';
import type { Origin, OwnerEndState } from '../lockd/state.ts';
import type { HoldState, ResourceState } from '../lockspace/state.ts';
import type { ConnectionState, ServerHead } from '../rpc/state.ts';
import type { Connection } from '../rpc/connection.ts';
import type { Server } from '../rpc/server.ts';
import type { ByteString } from '../../xdr/codec.ts';
import { Confirmation, execDropsLocks } from './confirm.ts';
import type { AdminClientState, LockClientState, StateDocument } from './document.ts';
import { parseLateClient } from './parse.ts';
import type { Predecessor } from './predecessor.ts';

const log = logger('locking.lock_daemon');

/** The daemon that a state document describes, not started yet. */
export function restoreDaemon(settings: DaemonSettings, predecessor: Predecessor): Daemon {
  const { lockServer, adminServer } = predecessor.document;
  const daemon = new Daemon(settings, {
    lock: shapeOf(lockServer),
    ...(adminServer === null ? {} : { admin: shapeOf(adminServer) }),
  });
  adoptState(daemon, predecessor);
  return daemon;
}

function shapeOf(server: ServerHead): ServerShape {
  return {
    maxClients: server.max_clients,
    maxAnonymousClients: server.max_anonymous_clients,
    nextClientId: server.next_client_id,
  };
}

/** Fills a daemon that has not been started. */
export function adoptState(daemon: Daemon, { document, late }: Predecessor): void {
  const owners = new Owners();
  adoptServer(daemon.lockServer, document.lockServer);
  for (const client of document.lockServer.clients) adoptLockClient(daemon, client, owners);
  if (late !== null) {
    daemon.lockServer.expect(late, (state, fd) => {
      adoptLateClient(daemon, state, fd, owners);
    });
  }
  if (document.adminServer !== null) {
    adoptServer(daemon.adminServer, document.adminServer);
    for (const client of document.adminServer.clients) adoptAdminClient(daemon.adminServer, client);
  }

  if (document.own === null) daemon.ownerReaper.origin = originInC(daemon);
  daemon.lockspaces.adoptLater(new Resources(daemon, document, owners));
  // Another process may have them by now, so nobody is served before that is known.
  if (execDropsLocks()) new Confirmation(daemon).runAfterDrop();
}

/**
 * This process was a C daemon until now, which says of no client and no owner whether its pid is of another pid namespace. With one such client,
 * the age of a process says nothing about any of these owners.
 */
function originInC({ lockServer, ownerReaper, processes }: Daemon): Origin {
  const isAllLocal = [...lockServer.adoptAll().values()].every(
    ({ peer: { pid } }) => pid !== 0 && processes.isLocal(pid) === true,
  );
  const { start } = isAllLocal ? ownerReaper.origin : {};
  return { clients: lockServer.nextClientId, ...(start === undefined ? {} : { start }) };
}

function adoptServer(
  server: Pick<Server<unknown>, 'name' | 'priorityWorkers' | 'addListener'>,
  state: ServerHead,
): void {
  server.priorityWorkers = state.priority_workers;
  for (const { fd, unlinkUNIX } of state.services.flatMap(({ socks }) => socks)) {
    const kind = posix.inspectSocket(fd, inspected);
    if (kind !== SocketKind.LISTENING) {
      log.error(`${server.name}: descriptor ${fd} is no listening socket (${describeKind(kind)}): nobody is accepted`);
      continue;
    }
    posix.setNonblocking(fd);
    posix.listenAgain(fd, BACKLOG);
    server.addListener({ fd, path: posix.socketPath(fd), unlink: unlinkUNIX });
  }
}

const inspected = new Int32Array(3);

/** Null when the descriptor is no connection. */
function adoptClient<C>(server: Server<C>, client: ConnectionState): Connection<C> | null {
  const { fd } = client.sock;
  const kind = posix.inspectSocket(fd, inspected);
  if (kind !== SocketKind.CONNECTED) {
    log.error(`${server.name}: descriptor ${fd} of client ${client.id} is no connection (${describeKind(kind)})`);
    return null;
  }
  // Credentials stay those of the process that connected.
  const [pid = 0, uid = -1, gid = -1] = inspected;
  const { 'x-start': startTime } = client;
  const peer = { pid, uid: uid >>> 0, gid: gid >>> 0, ...(startTime === undefined ? {} : { startTime }) };
  const adopted = server.adopt(fd, client.id, peer, client.conn_time);
  const {
    'x-received': received = '',
    'x-skip': skip = 0,
    'x-unsent': unsent = '',
    'x-closing': closing = false,
    'x-waiting': arrival = 0,
  } = client;
  if (received !== '' || unsent !== '') {
    adopted.restore({
      received: Buffer.from(received, 'base64'),
      skip,
      unsent: Buffer.from(unsent, 'base64'),
      closing,
    });
    adopted.arrival = arrival;
  }
  return adopted;
}

function adoptAdminClient(server: Server<AdminPeer>, client: AdminClientState): void {
  const context = adoptClient(server, client)?.context;
  if (context === undefined) return;
  context.subscribed = client['x-subscribed'] ?? false;
  context.missed = client['x-missed'] ?? 0;
  context.knowsLosses = client['x-losses'] ?? false;
}

function adoptLockClient(daemon: Daemon, client: LockClientState, owners: Owners): Connection | null {
  const adopted = adoptClient(daemon.lockServer, client);
  if (adopted === null) return null;
  restoreOwner(adopted.context, client, owners);
  daemon.lockspaces.budget.addName(adopted.context.ownerName);
  return adopted;
}

/** Adopts a client that has sent a call, or when there is time: its socket is polled already. */
function adoptLateClient(daemon: Daemon, state: unknown, fd: number, owners: Owners): void {
  try {
    const connection = adoptLockClient(daemon, parseLateClient(state), owners);
    if (connection === null) daemon.poller.forget(fd);
    else connection.start();
  } catch (error) {
    log.error(`The client at descriptor ${fd} is lost: ${(error as Error).message}`);
    daemon.poller.forget(fd);
  }
}

function describeKind(kind: number): string {
  return kind < 0 ? strerror(kind) : 'it is something else';
}

function restoreOwner(context: LockClient, client: LockClientState, owners: Owners): void {
  const { privateData } = client;
  context.isLocal ??= client['x-local'];
  context.restricted = privateData.restricted;
  const { ownerId: id, ownerPid: pid, ownerName: name, ownerUUID: uuid } = privateData;
  if (id === 0) return;
  context.owner = owners.exact(pid, { id, name, uuid });
  // It has called before. (C forgets that, and does not show the identity of any guest after a restart.)
  context.connection.isIdentified = true;
}

/** Owners by pid, so that all holds of an owner share one identity. A C daemon's holds get the details of a connected client. */
class Owners {
  private readonly byPid = new Map<number, OwnerIdentity>();

  find(pid: number): OwnerIdentity {
    const known = this.byPid.get(pid);
    if (known !== undefined) return known;
    const owner = unknownOwner(pid);
    this.byPid.set(pid, owner);
    return owner;
  }

  /** The identity with these details: one object for equal ones that follow each other. */
  exact(pid: number, details: OwnerDetails): OwnerIdentity {
    const known = this.byPid.get(pid);
    if (known !== undefined && isSame(known, details)) return known;
    const { id, name, uuid, start, foreign } = details;
    const owner: OwnerIdentity = { pid, id, name, uuid };
    if (start !== undefined) owner.startTime = start;
    if (foreign === true) owner.isForeign = true;
    this.byPid.set(pid, owner);
    return owner;
  }
}

type OwnerDetails = Pick<HoldState, 'id' | 'name' | 'uuid' | 'start' | 'foreign'>;

function isSame(one: OwnerIdentity, other: OwnerDetails): boolean {
  return (
    one.id === other.id &&
    one.name === other.name &&
    one.uuid === other.uuid &&
    one.startTime === other.start &&
    (one.isForeign ?? false) === (other.foreign ?? false)
  );
}

/** Adopts one resource after the other: there may be very many, and clients wait. */
class Resources implements Rest {
  private readonly daemon: Daemon;
  private readonly owners: Owners;
  /** The descriptors seen so far, each with its file and the inode key on record. */
  private readonly files = new Map<number, { readonly file: HeldFile; readonly key: string | undefined }>();
  /** The holds of owners that are being ended, by the id of their end. */
  private readonly ending = new Map<number, Hold[]>();
  private readonly parts: Iterator<undefined, undefined>;
  private readonly mounts = new Mounts();
  isRunning = false;

  constructor(daemon: Daemon, document: StateDocument, owners: Owners) {
    this.daemon = daemon;
    this.owners = owners;
    const lists = Array.from(document.lockspaces, ({ directory, resources }, index) => ({
      lockspace: index === 0 ? daemon.lockspaces.default : daemon.lockspaces.add(directory),
      resources,
    }));
    this.parts = this.adoptAll(lists, document.own?.ending ?? []);
  }

  next(): boolean {
    this.isRunning = true;
    try {
      return this.parts.next().done !== true;
    } finally {
      this.isRunning = false;
    }
  }

  private *adoptAll(
    lists: readonly { readonly lockspace: Lockspace; readonly resources: Iterable<ResourceState> }[],
    ending: readonly OwnerEndState[],
  ): Generator<undefined, undefined> {
    try {
      for (const { lockspace, resources } of lists) {
        for (const state of resources) {
          this.adopt(lockspace, state);
          yield;
        }
      }
    } catch (error) {
      // The document passed a proof, or it would not be read late. Everything read so far is held.
      log.error(`Locks are lost, for their description cannot be read: ${(error as Error).message}`);
    }
    for (const end of ending) this.daemon.ownerReaper.resume(end, this.ending.get(end.id) ?? []);
    return undefined;
  }

  private adopt(lockspace: Lockspace, state: ResourceState): void {
    const { name, path, flags, 'x-inode': key, 'x-lock': lock } = state;
    let file: HeldFile;
    try {
      file = this.fileOf(state);
    } catch (error) {
      // A defect, which must lose neither this resource nor those after it.
      log.error(`Resource '${name}' stays held without its file: ${(error as Error).message}`);
      file = adoptWithout(modeOf(flags).shared, key, lock);
    }
    const by = state['x-releasing'];
    const release = by === undefined ? null : new Release(by, true);
    this.daemon.lockspaces.restoreResource(lockspace, name, path, modeOf(flags), file, this.holdsOf(state), release);
  }

  private holdsOf({ owners, 'x-holds': states }: ResourceState): Hold[] {
    const holds: Hold[] = [];
    for (let index = 0; index < owners.length; index++) {
      const pid = owners[index] ?? 0;
      const known = states?.[index];
      const hold: Hold =
        known === undefined
          ? { owner: this.owners.find(pid), since: 0, client: 0 }
          : { owner: this.owners.exact(pid, known), since: known.since, client: known.client };
      if (known?.ending !== undefined) this.addEnding(known.ending, hold);
      if (known?.unanswered === true) hold.unanswered = true;
      // A list made by push takes memory for more items.
      if (owners.length === 1) return [hold];
      holds.push(hold);
    }
    return holds;
  }

  /** The inode key of the file at the path, for a C document, which has none; not of a file system that may hang. */
  private keyAt(path: ByteString): string | undefined {
    return isLocalType(this.mounts.typeAt(path)) ? (inodeOf(path) ?? undefined) : undefined;
  }

  private addEnding(id: number, hold: Hold): void {
    const others = this.ending.get(id);
    if (others === undefined) this.ending.set(id, [hold]);
    else others.push(hold);
  }

  private fileOf(state: ResourceState): HeldFile {
    const { path, fd, flags, lockHeld, 'x-inode': key, 'x-lock': lock, 'x-spares': spares } = state;
    const { shared } = modeOf(flags);
    const [helper, number, blockDevice] = state['x-storage'] ?? [];
    if (helper !== undefined && number !== undefined) {
      const remote = adoptRemote(key, shared, { helper, file: number }, blockDevice);
      if (!lockHeld) remote.locked = false;
      remote.loss = state['x-lost'] ?? null;
      return remote;
    }
    const engineLock = state['x-etcd'];
    if (engineLock !== undefined) {
      // Without an engine this is the proof of a restart.
      const adopted = this.daemon.etcd?.engine.adopt(engineLock, shared) ?? adoptWithout(shared);
      adopted.locked = lockHeld;
      return adopted;
    }
    const known = this.files.get(fd);
    let file: HeldFile | null;
    if (known !== undefined && known.key === key) file = restoreReference(known.file, shared);
    else {
      file = adoptFile(fd, shared, key, lock);
      if (file !== null) this.files.set(fd, { file, key });
    }
    if (file === null) {
      // A defect of the program that wrote the document. It says nothing about the owner, and frees nothing.
      log.error(`Descriptor ${fd} is not the file of resource '${state.name}', which stays held without it`);
      file = adoptWithout(shared, key ?? this.keyAt(path), lock);
    }
    for (const spare of spares ?? []) if (deferClose(file, spare)) this.files.set(spare, { file, key });
    if (!lockHeld) file.locked = false;
    file.loss = state['x-lost'] ?? null;
    return file;
  }
}
