/** An owner that had hung up before a rival asked, though the daemon reads the rival's call first. */
import assert from 'node:assert/strict';
import { linkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { type Call, decode, decodeError, encode, lock } from '../../../src/lab/wire.ts';
import type { LockClient } from '../../../src/lockd/client.ts';
import { posix } from '../../../src/posix/posix.ts';
import { client } from '../../../src/programs/fuzz/client.ts';
import type { Connection } from '../../../src/rpc/connection.ts';
import { makeDaemon } from '../support/daemon.ts';
import { until } from '../support/link.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { World } from '../support/processes.ts';

const OWNER = 300;
const RIVAL = 301;
const HELD = 87;

interface Peer {
  readonly connection: Connection<LockClient>;
  readonly fd: number;
}

describe('an end that has not been read yet', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let world: World;
  let daemon: Daemon;
  let disk: string;
  let owner: Peer;
  let rival: Peer;
  const open: number[] = [];

  beforeEach(() => {
    directory = temporaryDirectory();
    world = new World();
    for (const pid of [OWNER, RIVAL]) world.begin(pid);
    daemon = makeDaemon(world);
    disk = join(directory.path, 'disk');
    writeFileSync(disk, '');
    owner = connect(OWNER);
    rival = connect(RIVAL);
    serve(owner, lock.register({ pid: OWNER }), lock.acquire('', disk));
    serve(rival, lock.register({ pid: RIVAL }));
    assert.deepEqual([codes(owner), codes(rival)], [[0, 0], [0]]);
  });
  afterEach(async () => {
    for (const { connection } of [owner, rival]) connection.close();
    for (const fd of open.splice(0)) client.close(fd);
    for (const pid of [OWNER, RIVAL]) world.end(pid);
    await until('nothing is held', () => daemon.lockspaces.count === 0);
    directory.remove();
  });

  function connect(pid: number): Peer {
    const pair = new Int32Array(2);
    client.pair(pair);
    const [near = -1, far = -1] = pair;
    posix.setNonblocking(near);
    world.socketOf(pid, near);
    const { lockServer } = daemon;
    const connection = lockServer.adopt(near, lockServer.nextClientId, { pid, uid: 0, gid: 0 }, 0);
    connection.start();
    open.push(far);
    return { connection, fd: far };
  }

  /** Has calls served before whatever else has come. */
  function serve({ connection }: Peer, ...calls: readonly Call[]): void {
    const bytes = Buffer.concat(calls.map((call) => encode(call)));
    connection.onRead(bytes, 0, bytes.length, false);
    daemon.poller.outbox.send();
  }

  /** The codes of the answers so far; 0 is success. */
  function codes({ fd }: Peer): number[] {
    const into = Buffer.alloc(65_536);
    const got = Math.max(0, client.receive(fd, into, 0, 0));
    const found: number[] = [];
    for (let at = 0; at < got; at += into.readUInt32BE(at)) {
      const { status, payload } = decode(into.subarray(at + 4, at + into.readUInt32BE(at)));
      found.push(status === 0 ? 0 : decodeError(payload).code);
    }
    return found;
  }

  for (const [what, call] of [
    ['an acquire', () => lock.acquire('', disk)],
    ['an acquire by another name', () => lock.acquire('', join(directory.path, '.', 'link'))],
    ['a delete', () => lock.deleteResource('', disk)],
    ['a create', () => lock.createResource('', disk)],
  ] as const) {
    it(`has ${what} wait until the process is gone`, async () => {
      linkSync(disk, join(directory.path, 'link'));
      client.close(open.shift() ?? -1);
      serve(rival, call());
      assert.deepEqual([rival.connection.isWaiting, codes(rival)], [true, []]);
      await until('the end is read', () => !owner.connection.isOpen);
      for (let i = 0; i < 4; i++) await turn();
      assert.deepEqual([rival.connection.isWaiting, codes(rival)], [true, []], 'the process lives');
      world.end(OWNER);
      await until(
        'it is answered',
        () => !rival.connection.isWaiting && rival.connection.pending.received.length === 0,
      );
      assert.deepEqual(codes(rival), [0]);
    });
  }

  it('is none while the owner lives and listens', () => {
    serve(rival, lock.acquire('', disk));
    assert.deepEqual(codes(rival), [HELD]);
  });

  it('is seen of an owner that still takes answers, but sends no more calls', async () => {
    client.finish(owner.fd);
    serve(rival, lock.acquire('', disk));
    assert.ok(rival.connection.isWaiting);
    await until('the end is read', () => !owner.connection.isOpen);
    world.end(OWNER);
    await until('it is answered', () => codes(rival).includes(0));
  });

  it('is not waited for behind answers that the owner does not take', () => {
    client.finish(owner.fd);
    // Of a socket that is full: the peer may take the rest whenever it likes.
    owner.connection.onUnsent(Buffer.alloc(8), 0);
    serve(rival, lock.acquire('', disk));
    assert.deepEqual(codes(rival), [HELD]);
  });

  it('is seen of an owner for which another process has acquired the lock', async () => {
    const other = join(directory.path, 'other');
    writeFileSync(other, '');
    serve(rival, lock.acquire('', other));
    const libvirtd = connect(RIVAL);
    serve(libvirtd, lock.register({ pid: OWNER }), lock.release('', disk), lock.acquire('', disk));
    assert.deepEqual(codes(libvirtd), [0, 0, 0]);
    libvirtd.connection.close();
    assert.deepEqual(codes(rival), [0]);
    client.close(open.shift() ?? -1);
    serve(rival, lock.acquire('', disk));
    assert.deepEqual([rival.connection.isWaiting, codes(rival)], [true, []]);
    await until('the end is read', () => !owner.connection.isOpen);
    world.end(OWNER);
    await until('it is answered', () => codes(rival).includes(0));
  });

  it('is that of who waited, too: a lock is not granted to who has hung up', async () => {
    owner.connection.close();
    serve(rival, lock.acquire('', disk));
    assert.ok(rival.connection.isWaiting);
    // Both in one round, of which the rival's end comes last.
    world.end(OWNER);
    await until('its call is to be made again', () => !rival.connection.isWaiting);
    client.close(open.pop() ?? -1);
    await until('its end is read', () => !rival.connection.isOpen);
    assert.equal(daemon.lockspaces.count, 0);
  });
});
