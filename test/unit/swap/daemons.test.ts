import assert from 'node:assert/strict';
import { closeSync, openSync, statSync } from 'node:fs';
import path from 'node:path';
import { LockType, posix } from '../../../src/posix/posix.ts';
import { changeLock } from '../../../src/posix/record-lock.ts';
import { leasesOf, resolveProgram, socketsOfDaemon } from '../../../src/swap/daemons.ts';
import { temporaryDirectory } from '../support/locks.ts';

describe('the leases of a process', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let lease: string;
  let pidFile: string;
  const open: number[] = [];

  function lock(file: string): void {
    const fd = openSync(file, 'a+');
    open.push(fd);
    assert.equal(posix.setlk(fd, LockType.WRITE, 0, 1), 0);
  }

  /** The inodes among the rows that belong to files of this test. */
  function inodes(rows: readonly string[]): string[] {
    const known = [lease, pidFile].map((file) => String(statSync(file).ino));
    return rows.map((row) => row.split(' ')[1]?.split(':').at(-1) ?? '').filter((inode) => known.includes(inode));
  }

  before(() => {
    directory = temporaryDirectory();
    [lease, pidFile] = ['lease', 'virtlockd.pid'].map((name) => path.join(directory.path, name)) as [string, string];
    lock(lease);
    lock(pidFile);
  });

  after(() => {
    for (const fd of open) closeSync(fd);
    directory.remove();
  });

  it('are locks of the first byte: that of a holder’s note is another', () => {
    const fd = open[0] ?? -1;
    assert.equal(posix.setOfdLock(fd, LockType.WRITE, 512, 1), 0);
    assert.equal(inodes(leasesOf(process.pid)).length, 2);
    assert.equal(posix.setOfdLock(fd, LockType.UNLOCK, 512, 1), 0);
  });

  it('are all its locks but the one on its pid file', () => {
    assert.equal(inodes(leasesOf(process.pid)).length, 2);
    assert.deepEqual(inodes(leasesOf(process.pid, pidFile)), [String(statSync(lease).ino)]);
  });

  it('are the same ones when they are those of its open files', () => {
    const [fd = -1] = open;
    // Other tests in this process may have locks, too.
    const own = (): string[] => leasesOf(process.pid).filter((row) => inodes([row]).length > 0);
    const before = own();
    assert.deepEqual(changeLock(fd, false, 'ofd'), { kind: 'ofd', degraded: false, errno: 0 });
    assert.deepEqual(own(), before);
    changeLock(fd, false, 'posix');
  });

  it('are all its locks when there is no pid file', () => {
    assert.equal(inodes(leasesOf(process.pid, path.join(directory.path, 'missing'))).length, 2);
  });
});

describe('what is known of a lock daemon by its process', () => {
  it('is the program that it executes again, by path or as a command', () => {
    assert.equal(resolveProgram(process.pid, './a/b'), path.resolve('a/b'));
    assert.match(resolveProgram(process.pid, 'sh') ?? '', /^\/.*\/sh$/);
    assert.equal(resolveProgram(process.pid, 'no-such-command'), undefined);
  });

  it('is where it listens', () => {
    assert.deepEqual(socketsOfDaemon(process.pid), { socket: undefined, adminSocket: undefined });
  });
});
