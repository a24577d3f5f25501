import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { constants, writeFileSync } from 'node:fs';
import path from 'node:path';
import { eventually } from '../../../src/lab/process.ts';
import { missingFuse } from '../../../src/lab/requirements.ts';
import { isLocalFile } from '../../../src/lockspace/local-files.ts';
import { lastStat, posix } from '../../../src/posix/posix.ts';
import { skipIf } from '../../support/skip.ts';
import { useTemporaryDirectory } from '../support/locks.ts';
import { OneNumber } from '../support/one-number.ts';

describe('files of file systems that answer by themselves', () => {
  const directory = useTemporaryDirectory();

  function isLocal(file: string, flags = constants.O_RDWR): boolean {
    const fd = posix.openInode(file, flags);
    assert.ok(fd >= 0);
    const local = isLocalFile(fd, lastStat());
    posix.close(fd);
    return local;
  }

  it('are regular files', () => {
    const [file, fifo] = ['file', 'fifo'].map((name) => path.join(directory.path, name)) as [string, string];
    writeFileSync(file, '');
    execFileSync('mkfifo', [fifo]);
    assert.deepEqual(
      [file, fifo, '/dev/null'].map((one) => isLocal(one)),
      [true, false, false],
    );
  });

  it('are none of a file system behind which there is a process', async function () {
    skipIf(this, missingFuse());
    const server = await OneNumber.mount();
    try {
      assert.equal(isLocal(path.join(server.path, 'a'), constants.O_RDWR | constants.O_CREAT), false);
    } finally {
      await server.end();
    }
  });

  it("are known by their device until a mount changes, for then its number may be another one's", async function () {
    skipIf(this, missingFuse());
    const file = path.join(directory.path, 'file');
    writeFileSync(file, '');
    const fd = posix.openInode(file, constants.O_RDWR);
    const stat = lastStat();
    const NONE = 900_000;
    const server = await OneNumber.mount();
    await eventually('the new mount is noticed', () => !isLocalFile(NONE, stat));
    // What could not be found out is asked for again.
    assert.deepEqual(
      [fd, NONE].map((one) => isLocalFile(one, stat)),
      [true, true],
    );
    await server.end();
    await eventually('its end is noticed', () => !isLocalFile(NONE, stat));
    posix.close(fd);
  });
});
