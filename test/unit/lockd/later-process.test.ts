/** A process whose number was that of another before, of which a child still has the connection. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { encode, lock } from '../../../src/lab/wire.ts';
import type { LockClient } from '../../../src/lockd/client.ts';
import { posix } from '../../../src/posix/posix.ts';
import { client } from '../../../src/programs/fuzz/client.ts';
import type { Connection } from '../../../src/rpc/connection.ts';
import { makeDaemon } from '../support/daemon.ts';
import { until } from '../support/link.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { World } from '../support/processes.ts';

const PID = 300;

describe('a process with the number of another before it', () => {
  it('keeps its lock when that is to end it, until it is gone', async () => {
    const directory = temporaryDirectory();
    const world = new World();
    world.gonePeer = -os.constants.errno.ESRCH;
    const daemon: Daemon = makeDaemon(world);
    const disk = join(directory.path, 'disk');
    writeFileSync(disk, '');
    const far: number[] = [];
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
    world.begin(PID, 600);
    const former = connect();
    world.end(PID);
    world.begin(PID, 900);
    const later = connect();
    const bytes = encode(lock.acquire('', disk));
    later.onRead(bytes, 0, bytes.length, false);
    daemon.poller.outbox.send();
    assert.equal(daemon.lockspaces.count, 1);
    // As for a lock that was lost.
    daemon.ownerReaper.end(PID);
    assert.deepEqual([daemon.lockspaces.count, world.signals], [1, ['SIGTERM 300 at 0']]);
    world.end(PID);
    await until('nothing is held', () => daemon.lockspaces.count === 0);
    for (const connection of [former, later]) connection.close();
    for (const fd of far) client.close(fd);
    directory.remove();
  });
});
