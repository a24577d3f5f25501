/** An ordinary user's session daemon, asked by that user and by root. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { startDaemon } from '../../../../src/lab/start.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout } from '../../../../src/lab/trees.ts';
import { ordinaryUser } from '../../../../src/lab/root.ts';

const program = join(checkout, 'bin/virt-lockctl');

describe('virt-lockctl with a session daemon', function () {
  this.timeout(30_000);

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
