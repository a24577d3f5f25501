/** A process whose number was that of another before, of which a child still has the connection. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { encode, lock } from '../../../src/lab/wire.ts';
import type { LockClient } from '../../../src/lockd/client.ts';
import type { Hold } from '../../../src/lockspace/owner.ts';
import { posix } from '../../../src/posix/posix.ts';
import { client } from '../../../src/programs/fuzz/client.ts';
import type { Connection } from '../../../src/rpc/connection.ts';
import { makeDaemon } from '../support/daemon.ts';
import { until } from '../support/link.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { World } from '../support/processes.ts';

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
    world.gonePeer = -os.constants.errno.ESRCH;
    replace();
    acquire(later, 'disk');
    assert.equal(daemon.lockspaces.count, 1);
    // As for a lock that was lost.
    daemon.ownerReaper.end(holdsOf('disk'));
    assert.deepEqual([daemon.lockspaces.count, world.signals], [1, ['SIGTERM 300 at 0']]);
  });

  for (const atOnce of [false, true]) {
    it(`lives and keeps its lock when the other's is to end that${atOnce ? ' at once' : ''}`, async () => {
      world.gonePeer = -os.constants.errno.ESRCH;
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
});
