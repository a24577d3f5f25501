/**
 * Takes over what a state document describes. Nothing in it is believed before it was looked at: a descriptor must be
 * the socket or the file that the document says it is, and every lock is asked for again.
 */
import { readFileSync } from 'node:fs';
import type { Daemon } from '../daemon/daemon.ts';
import { BACKLOG } from '../daemon/sockets.ts';
import { logger } from '../daemon/log/log.ts';
import { adoptFile, keepSpare } from '../lockspace/files.ts';
import type { Lockspace } from '../lockspace/lockspaces.ts';
import { haveSameDetails, type Hold, unknownOwner, type OwnerIdentity } from '../lockspace/owner.ts';
import { posix, SocketKind, strerror } from '../posix/posix.ts';
import { kernelIsAtLeast } from '../proc/kernel.ts';
import type { LockClient } from '../lockd/client.ts';
import type { Connection } from '../rpc/connection.ts';
import { poller } from '../rpc/poller.ts';
import type { Server } from '../rpc/server.ts';
import { AcquireFlag } from '../../xdr/programs/lock.ts';
import type { ClientState, HoldState, ResourceState, ServerState } from './document.ts';
import { LateClients } from './late-clients.ts';
import { parseLateClient } from './parse.ts';
import type { Predecessor } from './predecessor.ts';

const log = logger('locking.lock_daemon');

/** Fills a fresh daemon, whose servers were made with the limits of the document, but not started. */
export function adoptState(daemon: Daemon, { document, late }: Predecessor): void {
  const owners = new Owners();
  adoptServer(daemon.lockServer, document.lockServer);
  for (const client of document.lockServer.clients) adoptLockClient(daemon, client, owners);
  if (late !== null) {
    const adopt = (state: unknown, fd: number): void => {
      adoptLateClient(daemon, state, fd, owners);
    };
    daemon.lockServer.expect(new LateClients(late, adopt));
  }
  if (document.adminServer !== null) {
    adoptServer(daemon.adminServer, document.adminServer);
    for (const client of document.adminServer.clients) adoptClient(daemon.adminServer, client);
  }

  const mayHaveLost = execLosesLocks() ? locksOfThisProcess() : null;
  const lockspaces = Array.from(document.lockspaces, ({ directory, resources }, index) => ({
    lockspace: index === 0 ? daemon.lockspaces.default : daemon.lockspaces.restore(directory),
    resources: [...resources],
  }));
  const ending = new Map<number, Hold[]>();
  const lost = new Map<number, number | undefined>();
  // What is held exclusively comes first: see adoptFile.
  for (const shared of [false, true]) {
    for (const { lockspace, resources } of lockspaces) {
      for (const state of resources) {
        if (isShared(state) !== shared || adoptResource(daemon, lockspace, state, owners, mayHaveLost, ending))
          continue;
        state.owners.forEach((pid, index) => lost.set(pid, state['x-holds']?.[index]?.start));
      }
    }
  }
  for (const end of document.own?.ending ?? []) daemon.ownerEnds.resume(end, ending.get(end.id) ?? []);
  // Not before all is adopted: what came after would stay held for an owner that is gone.
  for (const [pid, startTime] of lost) daemon.ownerEnds.end(pid, { startTime });
}

function adoptServer(
  server: Pick<Server<unknown>, 'name' | 'priorityWorkers' | 'addListener'>,
  state: ServerState,
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

/** Null when there is no connection behind the descriptor. */
function adoptClient<C>(server: Server<C>, client: ClientState): ReturnType<Server<C>['adopt']> | null {
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
  adopted.connection.subscribed = client['x-subscribed'] ?? false;
  adopted.connection.missed = client['x-missed'] ?? 0;
  if (client['x-received'] !== undefined) {
    adopted.connection.restore({
      received: Buffer.from(client['x-received'], 'base64'),
      skip: client['x-skip'] ?? 0,
      unsent: Buffer.from(client['x-unsent'] ?? '', 'base64'),
      closing: client['x-closing'] ?? false,
    });
  }
  return adopted;
}

function adoptLockClient(daemon: Daemon, client: ClientState, owners: Owners): Connection | null {
  const adopted = adoptClient(daemon.lockServer, client);
  if (adopted === null) return null;
  restoreOwner(adopted.context, client, owners);
  daemon.lockspaces.budget.countName('', adopted.context.ownerName);
  return adopted.connection;
}

/** Called when the client has called, or when there is time: its socket is polled already. */
function adoptLateClient(daemon: Daemon, state: unknown, fd: number, owners: Owners): void {
  try {
    const connection = adoptLockClient(daemon, parseLateClient(state), owners);
    if (connection === null) poller.disown(fd);
    else connection.start();
  } catch (error) {
    log.error(`The client at descriptor ${fd} is lost: ${(error as Error).message}`);
    poller.disown(fd);
  }
}

function describeKind(kind: number): string {
  return kind < 0 ? strerror(kind) : 'it is something else';
}

function restoreOwner(context: LockClient, client: ClientState, owners: Owners): void {
  const { privateData } = client;
  if (privateData === null) return;
  context.isLocal ??= client['x-local'];
  context.restricted = privateData.restricted;
  const { ownerId: id, ownerPid: pid, ownerName: name, ownerUUID: uuid } = privateData;
  if (id === 0) return;
  context.owner = owners.exact({ id, pid, name, uuid });
  // It has called, so it is known; C forgets that, and tells of no guest any more who it is.
  context.connection.isIdentified = true;
}

/** Owners by pid, so that all holds of an owner share one identity; what a C daemon leaves is known by live clients. */
class Owners {
  private readonly byPid = new Map<number, OwnerIdentity>();

  find(pid: number): OwnerIdentity {
    const known = this.byPid.get(pid);
    if (known !== undefined) return known;
    const owner = unknownOwner(pid);
    this.byPid.set(pid, owner);
    return owner;
  }

  /** The identity with all these details, one object for equal ones that follow each other. */
  exact(owner: OwnerIdentity): OwnerIdentity {
    const known = this.byPid.get(owner.pid);
    if (known !== undefined && haveSameDetails(known, owner)) return known;
    this.byPid.set(owner.pid, owner);
    return owner;
  }
}

function isShared({ flags }: ResourceState): boolean {
  return (flags & AcquireFlag.SHARED) !== 0;
}

/**
 * Returns whether its lock is held, or lost and its owners are to be ended.
 *
 * @param ending gets the holds of owners that are being ended, by the id of their end
 */
function adoptResource(
  daemon: Daemon,
  lockspace: Lockspace,
  state: ResourceState,
  owners: Owners,
  present: ReadonlySet<string> | null,
  ending: Map<number, Hold[]>,
): boolean {
  const { name, path, fd, flags } = state;
  const file = adoptFile(fd, isShared(state), state['x-inode']);
  if (file === null) {
    log.error(`Descriptor ${fd} is not the file of resource '${name}', whose lock is lost: its owners are ended`);
    return false;
  }
  for (const spare of state['x-spares'] ?? []) keepSpare(file, spare);
  const resource = daemon.lockspaces.restoreResource(lockspace, name, path, flags, file);
  state.owners.forEach((pid, index) => {
    const known = state['x-holds']?.[index];
    const hold = known === undefined ? { owner: owners.find(pid), since: 0, client: 0 } : holdOf(pid, known, owners);
    daemon.lockspaces.addHold(resource, hold);
    if (known?.ending === undefined) return;
    const others = ending.get(known.ending);
    if (others === undefined) ending.set(known.ending, [hold]);
    else others.push(hold);
  });
  if (!file.locked) {
    log.error(`The lock of resource '${name}' was lost and is taken by somebody else: its owners are ended`);
  } else if (present !== null && !present.has(file.key)) {
    log.warn(`The lock of resource '${name}' was lost in the restart and has been taken again`);
  }
  return file.locked;
}

function holdOf(pid: number, { id, name, uuid, since, client, start, foreign }: HoldState, owners: Owners): Hold {
  const owner: OwnerIdentity = { pid, id, name, uuid };
  if (start !== undefined) owner.startTime = start;
  if (foreign === true) owner.isForeign = true;
  return { owner: owners.exact(owner), since, client };
}

/** Before Linux 5.11, exec from a process with several threads, as every Node.js process is, drops POSIX locks. */
function execLosesLocks(): boolean {
  return !kernelIsAtLeast(5, 11);
}

/** Inodes that this process has a lock on, by inode key. Empty where /proc does not tell. */
function locksOfThisProcess(): Set<string> {
  const keys = new Set<string>();
  let table: string;
  try {
    table = readFileSync('/proc/locks', 'latin1');
  } catch {
    return keys;
  }
  const row = /^\d+: POSIX +ADVISORY +\w+ (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) /gm;
  for (const [, pid, major, minor, inode] of table.matchAll(row)) {
    if (Number(pid) !== process.pid) continue;
    // glibc's makedev for the numbers that block devices have.
    const device = (parseInt(major ?? '', 16) << 8) | parseInt(minor ?? '', 16);
    keys.add(`${device}::${inode ?? ''}`);
  }
  return keys;
}
