/** A process whose number was that of another before, of which a child still has the connection. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { encode, lock } from '../../../src/lab/wire.ts';
import type { LockClient } from '../../../src/lockd/client.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { type Hold, unknownOwner } from '../../../src/lockspace/owner.ts';
import { posix } from '../../../src/posix/posix.ts';
import { client } from '../../../src/programs/fuzz/client.ts';
import type { Connection } from '../../../src/rpc/connection.ts';
import { makeDaemon } from '../support/daemon.ts';
import { until } from '../support/link.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { World } from '../support/processes.ts';

const { ESRCH, EINVAL } = os.constants.errno;
const PID = 300;

describe('a process with the number of another before it', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let world: World;
  let daemon: Daemon;
  let former: Connection<LockClient>;
  let later: Connection<LockClient>;
  let far: number[];

  const connect = (): Connection<LockClient> => {
    const pair = new Int32Array(2);
    client.pair(pair);
    const [near = -1, other = -1] = pair;
    far.push(other);
    posix.setNonblocking(near);
    world.socketOf(PID, near);
    const { lockServer } = daemon;
    const connection = lockServer.adopt(near, lockServer.nextClientId, { pid: PID, uid: 0, gid: 0 }, 0);
    connection.start();
    const bytes = encode(lock.register({ pid: PID }));
    connection.onRead(bytes, 0, bytes.length, false);
    return connection;
  };

  /** Acquires a file in the directory. */
  const acquire = (connection: Connection<LockClient>, name: string): void => {
    const disk = join(directory.path, name);
    writeFileSync(disk, '');
    const bytes = encode(lock.acquire('', disk));
    connection.onRead(bytes, 0, bytes.length, false);
    daemon.poller.outbox.send();
  };

  /** As libvirtd does it for a guest. @param startTime undefined: as a C daemon hands a hold over, which says of neither */
  const acquireFor = (name: string, startTime?: number): void => {
    const disk = join(directory.path, name);
    writeFileSync(disk, '');
    const owner = { ...unknownOwner(PID), ...(startTime === undefined ? {} : { id: 1, startTime }) };
    const caller = startTime === undefined ? 0 : 77;
    daemon.lockspaces.acquire(daemon.lockspaces.default, disk, modeOf(0), { owner, since: 0, client: caller });
  };

  const holdsOf = (name: string): Hold[] =>
    [...daemon.lockspaces.resources()].flatMap((resource) => (resource.name.endsWith(name) ? resource.holds : []));

  beforeEach(() => {
    directory = temporaryDirectory();
    world = new World();
    daemon = makeDaemon(world);
    far = [];
    world.begin(PID, 600);
    former = connect();
  });

  /** The former process is gone, but a child of it has its connection still. */
  const replace = (): void => {
    world.end(PID);
    world.begin(PID, 900);
    later = connect();
  };

  afterEach(async () => {
    for (const connection of [former, later]) connection.close();
    world.end(PID);
    await until('nothing is held', () => daemon.lockspaces.count === 0);
    for (const fd of far) client.close(fd);
    directory.remove();
  });

  it('keeps its lock when that is to end it, until it is gone', () => {
    world.gonePeer = -ESRCH;
    replace();
    acquire(later, 'disk');
    assert.equal(daemon.lockspaces.count, 1);
    // As for a lock that was lost.
    daemon.ownerReaper.end(holdsOf('disk'));
    assert.deepEqual([daemon.lockspaces.count, world.signals], [1, ['SIGTERM 300 at 0']]);
  });

  for (const atOnce of [false, true]) {
    it(`lives and keeps its lock when the other's is to end that${atOnce ? ' at once' : ''}`, async () => {
      world.gonePeer = -ESRCH;
      acquire(former, 'former');
      replace();
      acquire(later, 'later');
      if (atOnce) daemon.ownerReaper.endAtOnce(holdsOf('former'));
      else daemon.ownerReaper.end(holdsOf('former'));
      await until('it is released', () => holdsOf('former').length === 0);
      world.pass(5000);
      assert.deepEqual([holdsOf('later').length, world.signals], [1, []]);
    });
  }

  it('lives when a lock of a C daemon is lost that was not its own', () => {
    world.gonePeer = -ESRCH;
    acquireFor('former');
    replace();
    for (const connection of [former, later]) {
      daemon.ownerReaper.end(holdsOf('former'));
      world.pass(5000);
      assert.deepEqual(world.signals, []);
      connection.close();
    }
  });

  it('lives when the other, of whose process the kernel could not tell, is to end', () => {
    acquire(former, 'former');
    acquireFor('plugged', 600);
    world.exhausted = true;
    former.close();
    assert.equal(daemon.ownerReaper.doubtful.length, 1);
    world.gonePeer = -ESRCH;
    replace();
    world.exhausted = false;
    acquire(later, 'later');
    daemon.ownerReaper.end(holdsOf('former'));
    world.pass(5000);
    assert.deepEqual([holdsOf('later').length, world.signals], [1, []]);
  });

  it('lives when the kernel reports a peer that is reaped as EINVAL, though it is older than the daemon', () => {
    world.gonePeer = -EINVAL;
    world.begin(PID, 300);
    acquire(former, 'former');
    world.end(PID);
    world.end(PID);
    world.begin(PID, 400);
    later = connect();
    daemon.ownerReaper.end(holdsOf('former'));
    world.pass(5000);
    assert.deepEqual(world.signals, []);
  });

  it('lives when it is older than the daemon, but not than the first that had the lock', () => {
    daemon.ownerReaper.origin = { start: 350, clients: 0 };
    acquireFor('former');
    world.end(PID);
    world.begin(PID, 400);
    later = connect();
    daemon.ownerReaper.endAll();
    world.pass(5000);
    assert.deepEqual(world.signals, []);
    // One that is older than that daemon, too, has had the number all the time.
    world.end(PID);
    world.begin(PID, 300);
    acquireFor('other');
    daemon.ownerReaper.endAll();
    assert.deepEqual(world.signals.length, 1);
  });

  it('is the owner that a C daemon has handed over with its only connection', () => {
    acquireFor('disk');
    later = former;
    daemon.ownerReaper.origin = { start: 1, clients: daemon.lockServer.nextClientId };
    daemon.ownerReaper.end(holdsOf('disk'));
    assert.deepEqual(world.signals, ['SIGTERM 300 at 0']);
  });

  /** The former one's connection has ended while descriptors have run out. */
  const lose = (): void => {
    acquire(former, 'disk');
    acquireFor('plugged', 600);
    world.exhausted = true;
    former.close();
    later = former;
    assert.equal(daemon.ownerReaper.doubtful.length, 1);
  };

  it('does not keep one from its end of whose process the kernel could not tell', async () => {
    lose();
    daemon.ownerReaper.endAll();
    world.exhausted = false;
    assert.deepEqual(daemon.ownerReaper.doubtful, [], 'its end has its socket');
    world.pass(5000);
    assert.deepEqual(
      new Set(world.signals.map((signal) => signal.split(' at ')[0])),
      new Set(['SIGTERM 300', 'SIGKILL 300']),
    );
    world.end(PID);
    await until('all is released', () => daemon.lockspaces.count === 0);
  });

  it('has one end once the kernel tells of it', async () => {
    lose();
    world.exhausted = false;
    const startTime = world.startTime.bind(world);
    world.startTime = () => undefined;
    world.pass(1000);
    world.startTime = startTime;
    world.pass(1000);
    world.end(PID);
    await until('also what libvirtd had acquired', () => daemon.lockspaces.count === 0);
  });
});
