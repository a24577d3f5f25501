import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { isPidFileOf, PidFile } from '../../../../src/programs/virtlockd/pidfile.ts';
import type { PidFileHost } from '../../../../src/programs/virtlockd/pidfile.ts';
import { strerror } from '../../../../src/posix/posix.ts';

describe('pid file', () => {
  let directory = '';
  let path = '';
  beforeEach(() => {
    directory = mkdtempSync(join(os.tmpdir(), 'virtlockd-pid-'));
    path = join(directory, 'pid');
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  const host = (lock: PidFileHost['lock'] = () => 0): PidFileHost => ({ pid: 4242, lock, strerror });

  it('holds the pid without a newline, in place of what was there', () => {
    writeFileSync(path, '123456789\n');
    const locked: number[][] = [];
    const file = PidFile.acquire(
      path,
      host((fd, start, length) => {
        locked.push([fd, start, length]);
        return 0;
      }),
    );
    assert(file !== null);
    assert.equal(readFileSync(path, 'latin1'), '4242');
    assert.deepEqual(locked, [[file.fd, 0, 1]]);
    file.remove();
    assert(!existsSync(path));
  });

  it('is made with mode 0644, as far as the umask lets it', () => {
    const umask = process.umask(0o022);
    try {
      PidFile.acquire(path, host())?.remove();
      const file = PidFile.acquire(path, host());
      assert.equal(statSync(path).mode & 0o777, 0o644);
      file?.remove();
    } finally {
      process.umask(umask);
    }
  });

  it('of another is left alone', () => {
    writeFileSync(path, '1');
    const held = host(() => -os.constants.errno.EAGAIN);
    assert.throws(() => PidFile.acquire(path, held), {
      name: 'StartupError',
      exitCode: 1,
      message: `Failed to acquire pid file '${path}': Resource temporarily unavailable`,
    });
    assert.equal(readFileSync(path, 'latin1'), '1');
  });

  it('that cannot be opened is reported as C reports it', () => {
    const missing = join(directory, 'no/pid');
    assert.throws(() => PidFile.acquire(missing, host()), {
      exitCode: 1,
      message: `Failed to open pid file '${missing}': No such file or directory`,
    });
    assert.throws(() => PidFile.acquire(directory, host()), {
      message: `Failed to open pid file '${directory}': Is a directory`,
    });
  });

  it('is none when its path is empty', () => {
    assert.equal(PidFile.acquire('', host()), null);
  });

  it('that its last holder removed between opening and locking is made again', () => {
    let locks = 0;
    const file = PidFile.acquire(
      path,
      host(() => {
        locks++;
        if (locks === 1) unlinkSync(path);
        return 0;
      }),
    );
    assert.equal(locks, 2);
    assert.equal(readFileSync(path, 'latin1'), '4242');
    file?.remove();
  });

  it('is not removed when another file took its name', () => {
    const file = PidFile.acquire(path, host());
    renameSync(path, `${path}.old`);
    writeFileSync(path, 'theirs');
    file?.remove();
    assert.equal(readFileSync(path, 'latin1'), 'theirs');
  });

  it('is known by its descriptor, whether it has its name or not', () => {
    const file = PidFile.acquire(path, host());
    assert(file !== null);
    unlinkSync(path);
    assert.deepEqual([isPidFileOf(file.fd, 4242), isPidFileOf(file.fd, 424)], [true, false]);
    file.remove();
    assert.equal(isPidFileOf(file.fd, 4242), false);
    writeFileSync(path, '42420');
    const other = openSync(path, 'r');
    assert.equal(isPidFileOf(other, 4242), false);
    closeSync(other);
  });

  it('is taken over by its descriptor, or acquired when that is something else', () => {
    const file = PidFile.acquire(path, host());
    assert(file !== null);
    assert.equal(PidFile.adopt(path, file.fd, host())?.fd, file.fd);
    unlinkSync(path);
    const other = PidFile.adopt(path, file.fd, host());
    assert.notEqual(other?.fd, file.fd);
    file.remove();
    assert.equal(readFileSync(path, 'latin1'), '4242');
    other?.remove();
  });
});
