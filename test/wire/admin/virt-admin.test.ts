/** The real virt-admin against the C daemon and this one: what it prints must be the same. */
import assert from 'node:assert/strict';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { openLab } from '../../../src/lab/trees.ts';
import {
  type Outcome,
  commands,
  missingVirtAdmin,
  session,
  typed,
  virtAdmin,
} from '../../../src/programs/interop/virt-admin.ts';

for (const [generation, configuration] of [
  ['9.0.0', 'libvirt_version = "9.0.0"\n'],
  ['12.8.0', ''],
] as const) {
  describe(`virt-admin of ${generation}`, function () {
    this.timeout(120_000);
    const labs: Lab[] = [];
    const daemons: LockDaemon[] = [];
    let expected: Outcome[] = [];
    let actual: Outcome[] = [];

    before(async function () {
      skipIf(this, missingDaemon(generation), missingDaemon('ours'), missingVirtAdmin(generation));
      for (const kind of [generation, 'ours'] as const) {
        const lab = await openLab(generation);
        labs.push(lab);
        daemons.push(await startDaemon(kind, kind === 'ours' ? { lab, configuration } : { lab }));
      }
      [expected = [], actual = []] = await Promise.all(daemons.map(async (daemon) => session(daemon)));
    });

    after(async () => {
      for (const daemon of daemons) await daemon.stop();
      for (const lab of labs) await lab.close();
    });

    for (const [index, command] of commands.entries()) {
      it(typed(command), () => {
        assert.ok(expected[index]);
        assert.deepEqual(actual[index], expected[index]);
      });
    }

    it('daemon-shutdown', async () => {
      const ends = await Promise.all(
        daemons.map(async (daemon) => {
          const outcome = await virtAdmin(daemon.lab, ['daemon-shutdown']);
          // virt-admin 9.0.0 knows no such command, and the daemon goes on.
          const { code, signal } = generation === '9.0.0' ? await daemon.stop() : await daemon.process.exited;
          return { outcome, code, signal };
        }),
      );
      assert.deepEqual(ends[1], ends[0]);
    });
  });
}
