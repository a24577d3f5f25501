/** Finds who has locked a file if another file of that process cannot be stat'ed. */
import assert from 'node:assert/strict';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { eventually, type Running } from '../../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../../src/lab/requirements.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';
import { fileId, findOutsiders } from '../../../../src/programs/lockctl/kernel/holders.ts';
import { skipIf } from '../../../support/skip.ts';

const { EIO, ESTALE } = os.constants.errno;

/** Opens the first file, and locks the second by its open file description (F_OFD_SETLK is 37). */
const HOLDER = `import fcntl, os, struct, sys, time
os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(os.open(sys.argv[2], os.O_RDWR), 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 1, 0))
print('held', flush=True)
time.sleep(60)
`;

describe('the process of an OFD lock', function () {
  this.timeout(60_000);
  let lab: Lab;
  const running: Running[] = [];

  async function run(output: string, ...args: string[]): Promise<number> {
    const started = lab.spawn('/usr/bin/python3', args);
    running.push(started);
    await eventually(output, () => {
      if (started.finished !== undefined) throw new Error(started.output);
      return started.output.includes(output);
    });
    return started.pid;
  }

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
    lab = await openLab();
  });

  afterEach(async () => {
    for (const { pid, exited, finished } of running.splice(0)) {
      if (finished === undefined) process.kill(pid, 'SIGKILL');
      await exited;
    }
    await (lab as Lab | undefined)?.close();
  });

  it('is found although the storage of another file that it has open fails', async () => {
    const [mount, file] = [join(lab.directory, 'storage'), join(lab.directory, 'image')];
    mkdirSync(mount);
    writeFileSync(file, '');
    await run('mounted', join(checkout, 'src/lab/fuse.py'), mount);
    const pid = await run('held', '-c', HOLDER, join(mount, 'disk'), file);
    const found = fileId(file);
    assert.ok(found !== null);
    for (const errno of [0, EIO, ESTALE]) {
      statSync(lab.outside(join(mount, `answer:getattr:${errno}`)), { throwIfNoEntry: false });
      assert.deepEqual(
        findOutsiders(found).map((outsider) => [outsider.pid, outsider.kind]),
        [[pid, 'OFD']],
        `errno ${errno}`,
      );
    }
  });
});
