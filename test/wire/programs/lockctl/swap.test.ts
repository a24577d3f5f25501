/** `swap` and the path by which the running daemon was started. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM } from '../../../../src/libvirt/paths.ts';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';
import { skipIf } from '../../../support/skip.ts';

describe('virt-lockctl swap, of a C daemon in a directory whose name is not ASCII', function () {
  this.timeout(60_000);
  let lab: Lab;
  let directory: string;
  let daemon: LockDaemon | undefined;

  beforeEach(async function () {
    skipIf(this, missingDaemon('9.0.0'));
    lab = await openLab('9.0.0');
    directory = join(lab.directory, 'größe');
    mkdirSync(directory);
    symlinkSync(PROGRAM, join(directory, 'virtlockd'));
  });

  afterEach(async () => {
    await daemon?.stop();
    daemon = undefined;
    await (lab as Lab | undefined)?.close();
  });

  for (const [how, program] of [
    ['by its path', (): string => join(directory, 'virtlockd')],
    ['by its name', (): string => 'virtlockd'],
  ] as const) {
    it(`finds the program that was started ${how}`, async () => {
      const env = { PATH: `${directory}:/usr/sbin:/usr/bin:/sbin:/bin` };
      daemon = await startDaemon('9.0.0', { lab, program: program(), env });
      const { code, stdout } = await lab.spawn(join(checkout, 'bin/virt-lockctl'), ['swap', '--dry-run']).exited;
      const output = Buffer.from(stdout, 'latin1').toString();
      assert.ok(output.includes(`started as ${join(directory, 'virtlockd')}\n`), output);
      assert.equal(code, 0, output);
    });
  }
});
