/** What the kernel has of the locks of a storage helper. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually, Running } from '../../../../src/lab/process.ts';
import { onPath } from '../../../../src/lab/requirements.ts';
import { HelperFiles } from '../../../../src/programs/lockctl/kernel/helper-files.ts';
import { skipIf } from '../../../support/skip.ts';
import type { LockInfo } from '../../../../xdr/programs/inquire.ts';

/** Has the name of a helper, and locks byte 0 by a POSIX or an OFD lock. */
const HELPER = `import fcntl, os, struct, sys, time
open('/proc/self/comm', 'w').write('virtlockd-storage')
fd = os.open(sys.argv[2], os.O_RDWR)
lock = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
fcntl.fcntl(fd, {'POSIX': fcntl.F_SETLK, 'OFD': 37}[sys.argv[1]], lock)
print('held', flush=True)
time.sleep(60)
`;

describe('the locks of a storage helper', () => {
  let directory: string;

  before(function () {
    skipIf(this, onPath('python3') ? undefined : 'python3 is not installed (package python3)');
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-helper-'));
  });

  after(() => {
    if ((directory as string | undefined) !== undefined) rmSync(directory, { recursive: true });
  });

  // Linux has an OFD lock on record as a POSIX one, if an NFSv4 server has put the request for it off.
  for (const kind of ['OFD', 'POSIX'] as const) {
    it(`are found where the kernel records them as ${kind} locks`, async () => {
      const file = join(directory, kind);
      writeFileSync(file, '');
      const env = { PATH: process.env.PATH ?? '' };
      const helper = Running.start(['python3', '-c', HELPER, kind, file], { env }, {});
      try {
        await eventually('the lock is held', () => helper.output.includes('held'));
        const { dev, ino } = statSync(file, { bigint: true });
        const lock = { device: Number(dev), inode: ino } as LockInfo;
        const files = new HelperFiles([helper]);
        assert.equal(files.isComplete, true);
        assert.equal(files.has(lock, 'WRITE'), true);
        assert.equal(files.has(lock, 'READ'), false);
        assert.equal(files.has({ ...lock, inode: ino + 1n }, 'WRITE'), false);
      } finally {
        await helper.stop('SIGKILL');
      }
    });
  }
});
