/** An ordinary user's session daemon, asked by that user and by root. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { startDaemon } from '../../../../src/lab/start.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import type { SpawnOptions } from '../../../../src/lab/place.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';
import { ordinaryUser } from '../../../../src/lab/root.ts';

const program = join(checkout, 'bin/virt-lockctl');

describe('virt-lockctl with a session daemon', function () {
  this.timeout(30_000);

  it('says how to start the one that is missing', async function () {
    skipIf(this, missingDaemon('ours'));
    const lab = await openLab('ours');
    try {
      const advice = async (options: SpawnOptions, ...words: readonly string[]): Promise<string | undefined> => {
        const { code, stderr } = await lab.run(program, [...words, 'status'], options);
        assert.equal(code, 3);
        assert.match(stderr, /^virt-lockctl: virtlockd is not running: there is no socket /);
        return stderr.split('\n')[1];
      };
      const system = 'Start it (systemctl start virtlockd.socket), or name another daemon with --connect.';
      assert.equal(await advice({}), system);
      const session =
        "Start it (virtlockd --daemon; libvirtd's session starts it for a guest), or name another daemon with --connect.";
      assert.equal(await advice({ ordinary: true }), session);
      assert.equal(await advice({}, '--connect', '/nowhere'), 'Start it, or name another daemon with --connect.');
    } finally {
      await lab.close();
    }
  });

  it("asks this user's own daemon by default, and says that it is not root's to ask by closing", async function () {
    skipIf(this, missingDaemon('ours'));
    const daemon = await startDaemon('ours', { ordinary: true });
    try {
      const own = await daemon.lab.run(program, ['status', '--json'], { ordinary: true });
      assert.deepEqual([own.code, own.stderr], [0, '']);
      assert.equal((JSON.parse(own.stdout) as { pid: number }).pid, daemon.pid);
      const named = await daemon.lab.run(program, ['-c', 'virtlockd:///session', 'list'], { ordinary: true });
      assert.deepEqual([named.code, named.stdout], [0, 'No lock is held.\n']);
      const system = await daemon.lab.run(program, ['status']);
      assert.equal(system.code, 3, 'the system has none');
      const directory = join(ordinaryUser.runtime, 'libvirt');
      const root = await daemon.lab.run(program, ['-c', directory, 'status']);
      assert.equal(root.code, 5);
      assert.match(root.stderr, /closes every connection at once: it runs as another user/);
    } finally {
      await daemon.stop();
    }
  });
});
