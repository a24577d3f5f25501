/** `swap` without guests. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM } from '../../../../src/libvirt/paths.ts';
import { C_PROGRAM, displace, type LockDaemon, programOf, startDaemon } from '../../../../src/lab/start.ts';
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

describe('virt-lockctl swap, to a C daemon while a client has not registered,', function () {
  this.timeout(60_000);
  let lab: Lab;
  let daemon: LockDaemon;

  before(async function () {
    skipIf(this, missingDaemon('9.0.0'), missingDaemon('ours'));
    lab = await openLab('9.0.0');
    displace(lab, programOf('ours'));
    daemon = await startDaemon('ours', { lab, program: PROGRAM });
  });

  after(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
    await (lab as Lab | undefined)?.close();
  });

  it('names the client, and closes it with --force', async () => {
    const swap = async (...options: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> =>
      lab.spawn(join(checkout, 'bin/virt-lockctl'), ['swap', '--to', C_PROGRAM, ...options]).exited;
    const silent = await daemon.connect();
    const refused = await swap();
    assert.match(refused.stderr, /1 check failed: nothing was changed/);
    assert.match(refused.stdout, new RegExp(`FAIL every client .*\\(pid ${process.pid}\\) has not`));
    const { code, stdout } = await swap('--force');
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^Swapped: libvirt's C virtlockd/m);
    assert.equal((await silent.drain()).length, 0);
  });
});
