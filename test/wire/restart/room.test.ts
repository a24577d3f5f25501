/** Without enough free descriptors the runtime aborts, and every lock is lost: so the daemon counts them before. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { type LockDaemon, programOf, startDaemon } from '../../../src/lab/start.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { autocreate, lock } from '../../../src/lab/wire.ts';
import { AtPath, NOBODY } from './at-path.ts';

function openBy({ pid }: LockDaemon): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Leaves a process so many descriptors beside those that it has. Not every root may raise the limit again. */
function leave(daemon: LockDaemon, free: number): void {
  const limit = openBy(daemon) + free;
  execFileSync('prlimit', ['--pid', String(daemon.pid), `--nofile=${limit}:${limit}`]);
}

describe('free descriptors at a re-execution', function () {
  this.timeout(60_000);

  it('are counted: our own program is not executed where the runtime would find too few', async function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'));
    const at = await AtPath.open();
    try {
      const before = openBy(at.daemon);
      const peers = await Promise.all(Array.from({ length: 64 }, () => at.daemon.connect()));
      await eventually('the connections are accepted', () => openBy(at.daemon) === before + peers.length);
      leave(at.daemon, 5);
      await at.refused(
        /the runtime needs 32 free descriptors, and of \d+ \d+ are free: raise the limit \(prlimit --pid \d+/,
      );
      for (const peer of peers) peer.close();
      await eventually('the connections are gone', () => openBy(at.daemon) < before + peers.length / 2);
      await at.executedAgain();
    } finally {
      await at.close();
    }
  });

  it('decide over every lock of a C daemon that executes ours, and does not count', async function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'));
    const daemon = await startDaemon('9.0.0');
    try {
      const holder = await daemon.connect();
      await holder.must(lock.register({ pid: NOBODY }));
      await holder.must(lock.acquire('', `${daemon.lab.directory}/held`, autocreate));
      daemon.lab.install(programOf('ours'));
      leave(daemon, 0);
      process.kill(daemon.pid, 'SIGUSR1');
      const { code, signal } = await daemon.exited;
      assert.ok(code !== 0, signal ?? '');
      assert.deepEqual(daemon.locks(), []);
    } finally {
      await daemon.stop();
    }
  });
});
