/**
 * Takes over what a state document describes. Nothing in it is believed before it was looked at: a descriptor must be
 * the socket or the file that the document says it is, and every lock is asked for again.
 */
import { readFileSync } from 'node:fs';
import os from 'node:os';
import type { Daemon } from '../daemon/daemon.ts';
import { BACKLOG } from '../daemon/sockets.ts';
import { logger } from '../daemon/log/log.ts';
import { adoptFile, inodeOf, keepSpare, keyOfDescriptor } from '../lockspace/files.ts';
import type { Lockspace } from '../lockspace/lockspaces.ts';
import { unknownOwner, type OwnerIdentity } from '../lockspace/owner.ts';
import { posix, SocketKind, strerror } from '../posix/posix.ts';
import type { LockClient } from '../lockd/client.ts';
import type { Server } from '../rpc/server.ts';
import { AcquireFlag } from '../../xdr/programs/lock.ts';
import type { ClientState, ResourceState, ServerState, StateDocument } from './document.ts';

const log = logger('locking.lock_daemon');

/** Fills a fresh daemon, whose servers were made with the limits of the document, but not started. */
export function adoptState(daemon: Daemon, document: StateDocument): void {
  adoptServer(daemon.lockServer, document.lockServer, (context, client) => {
    restoreOwner(context, client);
  });
  if (document.adminServer !== null) adoptServer(daemon.adminServer, document.adminServer, () => undefined);

  const owners = new Owners(daemon.lockServer);
  const mayHaveLost = execLosesLocks() ? locksOfThisProcess() : null;
  for (const state of document.defaultResources) {
    adoptResource(daemon, daemon.lockspaces.default, state, owners, mayHaveLost);
  }
  for (const { directory, resources } of document.lockspaces) {
    const lockspace = daemon.lockspaces.restore(directory);
    for (const state of resources) adoptResource(daemon, lockspace, state, owners, mayHaveLost);
  }
}

function adoptServer<C>(
  server: Server<C>,
  state: ServerState,
  restore: (context: C, client: ClientState) => void,
): void {
  server.priorityWorkers = state.priority_workers;
  const listeners = state.services.flatMap(({ socks }) => socks);
  const descriptors = Int32Array.from([...listeners, ...state.clients.map(({ sock }) => sock)], ({ fd }) => fd);
  const found = new Int32Array(descriptors.length * SocketKind.WORDS);
  posix.inspectSockets(descriptors, found);
  let at = 0;
  for (const { fd, unlinkUNIX } of listeners) {
    const kind = found[at] ?? 0;
    at += SocketKind.WORDS;
    if (kind !== SocketKind.LISTENING) {
      log.error(`${server.name}: descriptor ${fd} is no listening socket (${describeKind(kind)}): nobody is accepted`);
      continue;
    }
    posix.setNonblocking(fd);
    posix.listenAgain(fd, BACKLOG);
    server.addListener({ fd, path: posix.socketPath(fd), unlink: unlinkUNIX });
  }
  for (const client of state.clients) {
    const { fd } = client.sock;
    const kind = found[at] ?? 0;
    const [pid, uid, gid] = [found[at + 1] ?? 0, found[at + 2] ?? -1, found[at + 3] ?? -1];
    at += SocketKind.WORDS;
    if (kind !== SocketKind.CONNECTED) {
      log.error(`${server.name}: descriptor ${fd} of client ${client.id} is no connection (${describeKind(kind)})`);
      continue;
    }
    // Credentials stay those of the process that connected.
    const peer = { pid, uid: uid >>> 0, gid: gid >>> 0 };
    const { connection, context } = server.adopt(fd, client.id, peer, client.conn_time);
    connection.subscribed = client['x-subscribed'] ?? false;
    if (client['x-received'] !== undefined) {
      connection.restore({
        received: Buffer.from(client['x-received'], 'base64'),
        skip: client['x-skip'] ?? 0,
        unsent: Buffer.from(client['x-unsent'] ?? '', 'base64'),
      });
    }
    restore(context, client);
  }
}

function describeKind(kind: number): string {
  return kind < 0 ? strerror(kind) : 'it is something else';
}

function restoreOwner(context: LockClient, { privateData }: ClientState): void {
  if (privateData === null) return;
  context.restricted = privateData.restricted;
  const { ownerId: id, ownerPid: pid, ownerName: name, ownerUUID: uuid } = privateData;
  if (id === 0) return;
  context.owner = { id, pid, name, uuid };
  // It has called, so it is known; C forgets that, and tells of no guest any more who it is.
  context.connection.isIdentified = true;
}

/** Owners by pid, so that all holds of an owner share one identity; what a C daemon leaves is known by live clients. */
class Owners {
  private readonly byPid = new Map<number, OwnerIdentity>();

  constructor(server: Server<LockClient>) {
    for (const { context } of server.clients.values()) {
      if (context.owner !== null) this.byPid.set(context.owner.pid, context.owner);
    }
  }

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
    if (known?.id === owner.id && known.name === owner.name && known.uuid === owner.uuid) return known;
    this.byPid.set(owner.pid, owner);
    return owner;
  }
}

function adoptResource(
  daemon: Daemon,
  lockspace: Lockspace,
  state: ResourceState,
  owners: Owners,
  present: ReadonlySet<string> | null,
): void {
  const { name, path, fd, flags } = state;
  const key = keyOfDescriptor(fd);
  const expected = state['x-inode'];
  if (key === null || (expected !== undefined && key !== expected)) {
    log.error(`Descriptor ${fd} is not the file of resource '${name}', whose lock is lost: its owners are ended`);
    for (const pid of new Set(state.owners)) daemon.ownerEnds.kill(pid);
    return;
  }
  if (inodeOf(path) !== key) log.warn(`${path} is not the file any more that is held as resource '${name}'`);

  const lost = present !== null && !present.has(key);
  const { file, locked } = adoptFile(fd, (flags & AcquireFlag.SHARED) !== 0);
  for (const spare of state['x-spares'] ?? []) keepSpare(file, spare);
  const resource = daemon.lockspaces.restoreResource(lockspace, name, path, flags, file);
  state.owners.forEach((pid, index) => {
    const hold = state['x-holds']?.[index];
    daemon.lockspaces.addHold(
      resource,
      hold === undefined
        ? { owner: owners.find(pid), since: 0, client: 0 }
        : {
            owner: owners.exact({ pid, id: hold.id, name: hold.name, uuid: hold.uuid }),
            since: hold.since,
            client: hold.client,
          },
    );
  });
  if (!locked) {
    log.error(`The lock of resource '${name}' was lost and is taken by somebody else: its owners are ended`);
    for (const pid of new Set(state.owners)) daemon.ownerEnds.end(pid);
  } else if (lost) log.warn(`The lock of resource '${name}' was lost in the restart and has been taken again`);
}

/** Before Linux 5.11, exec from a process with several threads, as every Node.js process is, drops POSIX locks. */
function execLosesLocks(): boolean {
  const [major = 0, minor = 0] = os.release().split('.').map(Number);
  return major < 5 || (major === 5 && minor < 11);
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
