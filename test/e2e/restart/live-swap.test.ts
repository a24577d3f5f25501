/** Runs every command of docs/operations/live-swap.md, in its order, under a running guest. */
import assert from 'node:assert/strict';
import { symlinkSync } from 'node:fs';
import { startDaemon } from '../../../src/lab/start.ts';
import { makeImage } from '../../../src/lab/guest.ts';
import { Libvirtd } from '../../../src/lab/libvirtd.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import { missingDaemon, missingGuests } from '../../../src/lab/requirements.ts';
import { blocksFor } from '../../support/blocks.ts';
import { skipIf } from '../../support/skip.ts';
import { checkout } from '../../../src/lab/trees.ts';

describe('docs/operations/live-swap.md', function () {
  this.timeout(120_000);

  it('says what works: to this daemon, upgraded, and back to C, with a guest running', async function () {
    skipIf(this, missingDaemon('9.0.0'), missingDaemon('ours'), missingGuests());
    const blocks = blocksFor('docs/operations/live-swap.md', 'test/e2e/restart/live-swap.test.ts');
    const daemon = await startDaemon('9.0.0');
    const { lab } = daemon;
    const libvirtd = new Libvirtd(lab);
    try {
      symlinkSync(checkout, lab.outside('/opt/virtlockd'));
      await libvirtd.start();
      const image = makeImage(lab.directory, 'guest.img');
      await libvirtd.run({ name: 'guest', disks: [{ image }] });
      const script = `set -exuo pipefail\n${blocks.map(({ text }) => text).join('\n')}`;
      const { code, stdout, stderr } = await lab.run('bash', ['-c', script]);
      assert.equal(code, 0, `${stdout}\n${stderr}\n${daemon.log}`);
      assert.equal(lockOn(daemon.pid, image), 'WRITE 0 0');
      await libvirtd.must('destroy', 'guest');
    } finally {
      await libvirtd.stop();
      await daemon.stop();
    }
  });
});
