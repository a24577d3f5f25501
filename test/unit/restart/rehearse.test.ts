/** The child of a proof adopts the descriptors of this process as a successor does, and only inspects them. */
import assert from 'node:assert/strict';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { once } from 'node:events';
import { inodeKey, lastStat, LockType, posix } from '../../../src/posix/posix.ts';
import type { ResourceState } from '../../../src/lockspace/state.ts';
import { changeLock } from '../../../src/posix/record-lock.ts';
import { knowsOfdLocks } from '../../../src/restart/answers.ts';
import { formatDocument, type LockClientState, type StateDocument } from '../../../src/restart/document.ts';
import { EMPTY_SERVER } from '../../../src/restart/empty-state.ts';
import { proveSuccessor } from '../../../src/restart/successor.ts';
import { findLoss, type Loss } from '../../../src/restart/rehearse.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { makeDaemon } from '../support/daemon.ts';
import { lockOf, temporaryDirectory, useTemporaryDirectory } from '../support/locks.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';

/** No process has this number. */
const NOBODY = 4_200_000;
const NIL = '00000000-0000-0000-0000-000000000000';
const HOLD = { id: 1, name: 'vm', uuid: NIL, since: 5, client: 1 };

describe('the rehearsal of taking over', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let descriptors: number[];

  beforeEach(() => {
    directory = temporaryDirectory();
    descriptors = [];
  });
  afterEach(() => {
    for (const fd of descriptors) posix.close(fd);
    directory.remove();
  });

  const at = (name: string): string => path.join(directory.path, name);

  /** A file that this process has locked, as a document describes it. */
  function resource(name: string, flags = 0): ResourceState {
    const fd = posix.openInode(at(name), 0o102);
    descriptors.push(fd);
    const key = inodeKey(lastStat());
    assert.equal(posix.setlk(fd, flags === 0 ? LockType.WRITE : LockType.READ, 0, 1), 0);
    return {
      name: at(name),
      path: at(name),
      fd,
      lockHeld: true,
      flags,
      owners: [NOBODY],
      'x-holds': [HOLD],
      'x-inode': key,
    };
  }

  function client(id: number, fd: number): LockClientState {
    return {
      id,
      auth: 0,
      auth_pending: false,
      readonly: false,
      nrequests_max: 1,
      conn_time: 0,
      sock: { fd, errfd: -1, pid: 0, isClient: true, unlinkUNIX: false },
      privateData: { restricted: false, ownerPid: 0, ownerId: 0, ownerName: '', ownerUUID: NIL },
    };
  }

  async function rehearse(
    resources: readonly ResourceState[],
    clients: readonly LockClientState[] = [],
    ...listeners: readonly number[]
  ): Promise<readonly Loss[]> {
    const socks = listeners.map((fd) => ({ fd, errfd: -1, pid: 0, isClient: false, unlinkUNIX: false }));
    const services = [{ auth: 0, readonly: false, nrequests_client_max: 1, socks }];
    const document: StateDocument = {
      magic: String(process.pid),
      lockServer: { ...EMPTY_SERVER, services, clients },
      adminServer: EMPTY_SERVER,
      lockspaces: [{ directory: '', resources }],
      own: null,
    };
    writeFileSync(at('state'), formatDocument(document));
    const program = path.join(checkout, 'bin/virtlockd');
    const successor = await proveSuccessor(program, at('state'));
    assert.ok(successor.kind === 'own' && successor.report !== undefined);
    assert.ok(knowsOfdLocks(successor));
    return successor.report.losses;
  }

  it('finds all that is there, and leaves it as it was', async () => {
    const listener = posix.listenUnix(at('socket'), 1);
    descriptors.push(listener);
    const caller = net.connect(at('socket'));
    await once(caller, 'connect');
    const connection = posix.connectUnix(at('socket'), 1000);
    descriptors.push(connection);
    const [exclusive, shared, kept] = [resource('exclusive'), resource('shared', 1), resource('kept')];
    assert.equal(changeLock(kept.fd, false, 'ofd').errno, 0);
    const resources: ResourceState[] = [exclusive, shared, { ...kept, 'x-lock': 'ofd' }];
    try {
      assert.deepEqual(await rehearse(resources, [client(1, connection)], listener), []);
    } finally {
      caller.destroy();
    }
    assert.equal(lockOf(at('exclusive')), 'WRITE');
    assert.equal(lockOf(at('shared')), 'READ');
    assert.equal(lockOf(at('kept')), 'WRITE');
    // Nothing was read from anybody, accepted or ended.
    assert.equal(posix.probeUnix(at('socket')), -11);
    assert.equal(posix.send(connection, Buffer.from('x'), 0, 1), 1);
  });

  it('tells what the successor would take for lost', async () => {
    const held = resource('held');
    const { 'x-inode': other } = resource('other');
    const gone = resource('gone');
    const closed = openSync('/dev/null', 'r');
    closeSync(closed);
    const wrong = { ...held, 'x-inode': other } as ResourceState;
    assert.deepEqual(await rehearse([wrong]), [{ kind: 'resource', fd: held.fd, key: other, since: 5 }]);
    const absent = { ...gone, fd: 900_000 };
    assert.deepEqual(await rehearse([held, absent], [client(7, held.fd), client(8, 900_001)]), [
      { kind: 'client', server: 'virtlockd', id: 7, fd: held.fd },
      { kind: 'client', server: 'virtlockd', id: 8, fd: 900_001 },
      { kind: 'resource', fd: 900_000, key: gone['x-inode'], since: 5 },
    ]);
    assert.equal(lockOf(at('held')), 'WRITE');
  });

  it('refuses a document that can be read, but not taken over', async () => {
    const listeners = Array.from({ length: 17 }, (_, index) => posix.listenUnix(at(`socket${index}`), 1));
    descriptors.push(...listeners);
    await assert.rejects(rehearse([], [], ...listeners), /cannot go on: more than 16 listening sockets/);
  });

  it('says nothing of a process that is not its own daemon', async () => {
    const held = { ...resource('held'), fd: 900_000 };
    writeFileSync(at('state'), '');
    const parent = process.pid;
    Object.defineProperty(process, 'pid', { value: 1 });
    try {
      assert.deepEqual(await rehearse([held]), []);
    } finally {
      Object.defineProperty(process, 'pid', { value: parent });
    }
  });
});

describe('what a rehearsal missed', () => {
  const directory = useTemporaryDirectory();

  it('is a loss only if the daemon still has it as it was in the document', async () => {
    const daemon = makeDaemon();
    const name = path.join(directory.path, 'disk');
    const owner = { pid: NOBODY, id: 1, name: 'vm', uuid: NIL };
    daemon.lockspaces.acquire(daemon.lockspaces.default, name, modeOf(2), { owner, since: 5, client: 0 });
    const [held] = daemon.lockspaces.resources();
    assert.ok(held !== undefined);
    const { fd, key } = held.file;
    const since = 5;
    assert.equal(await findLoss(daemon, []), undefined);
    assert.equal(await findLoss(daemon, [{ kind: 'resource', fd, key, since: 4 }]), undefined);
    assert.equal(await findLoss(daemon, [{ kind: 'resource', fd, key: `${key}0`, since }]), undefined);
    assert.equal(await findLoss(daemon, [{ kind: 'resource', fd: fd + 1, key, since }]), undefined);
    assert.equal(await findLoss(daemon, [{ kind: 'client', server: 'admin', id: 3, fd }]), undefined);
    assert.match(
      (await findLoss(daemon, [{ kind: 'resource', fd, key, since }])) ?? '',
      /would lose the lock of .*disk/,
    );
    const connection = daemon.lockServer.adopt(fd, 3, { pid: 0, uid: 0, gid: 0 }, 0);
    assert.equal(connection.fd, fd);
    const loss = await findLoss(daemon, [{ kind: 'client', server: 'virtlockd', id: 3, fd }]);
    assert.equal(loss, 'would lose client 3 of server virtlockd');
    daemon.lockspaces.endResource(held);
    assert.equal(await findLoss(daemon, [{ kind: 'resource', fd, key, since }]), undefined);
  });
});
