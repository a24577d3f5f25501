import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startDaemon } from '../../../src/lab/start.ts';
import { allLocks, lockOn, snapshot } from '../../../src/lab/observe.ts';
import { generations } from '../../../src/lab/generation.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { autocreate, decodeError, lock } from '../../../src/lab/wire.ts';

describe('the laboratory', () => {
  for (const generation of generations) {
    it(`runs the C daemon ${generation} and talks to it`, async function () {
      skipIf(this, missingDaemon(generation));
      const daemon = await startDaemon(generation, { configuration: 'max_clients = 7\n' });
      try {
        const image = join(daemon.lab.directory, 'disk.img');
        writeFileSync(image, '');
        const peer = await daemon.connect();
        const early = await peer.call(lock.acquire('', image));
        assert.equal(decodeError(early.payload).message?.includes('have not been registered'), true);
        await peer.must(lock.register({ pid: 5_000_000 }));
        await peer.must(lock.acquire('', image));
        assert.equal(lockOn(daemon.pid, image), 'WRITE 0 0');
        await peer.must(lock.createLockspace(join(daemon.lab.directory, 'space')));
        await peer.must(lock.acquire(join(daemon.lab.directory, 'space'), 'one', autocreate));
        assert.deepEqual(
          snapshot(join(daemon.lab.directory, 'space')).map((line) => line.replace(/\d+:\d+/, 'OWNER')),
          ['0700 directory OWNER .', '0600 file OWNER 0 bytes one'],
        );
        await peer.must(lock.release('', image));
        assert.equal(lockOn(daemon.pid, image), undefined);
        peer.close();
        assert.equal((await daemon.process.stop()).code, 0);
      } finally {
        await daemon.stop();
      }
      assert.equal(existsSync(daemon.lab.directory), false);
      assert.equal(
        allLocks().some(({ pid }) => pid === daemon.pid),
        false,
      );
    });
  }

  it('runs two daemons side by side, and nothing of the machine changes', async function () {
    skipIf(this, missingDaemon('9.0.0'));
    const before = existsSync('/run/libvirt/virtlockd-sock');
    const [one, two] = await Promise.all([startDaemon('9.0.0'), startDaemon('9.0.0')]);
    try {
      assert.notEqual(one.pid, two.pid);
      one.lab.write('/etc/libvirt/mark', 'one');
      assert.equal(existsSync(two.lab.outside('/etc/libvirt/mark')), false);
      assert.equal(existsSync('/etc/libvirt/mark'), false);
      assert.equal(existsSync('/run/libvirt/virtlockd-sock'), before);
    } finally {
      await Promise.all([one.stop(), two.stop()]);
    }
  });
});
