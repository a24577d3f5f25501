import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import path from 'node:path';
import { LockType, posix } from '../../../src/posix/posix.ts';
import { changeLock } from '../../../src/posix/record-lock.ts';
import { listeningSockets, listensAt } from '../../../src/proc/sockets.ts';
import { imageStart, isBeyondOthers, leasesOf, resolveProgram, socketsOfDaemon } from '../../../src/swap/daemons.ts';
import { temporaryDirectory } from '../support/locks.ts';

const uid = process.geteuid?.() ?? -1;

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

  it('is where it listens, and not where a name of another socket says so', async () => {
    const directory = temporaryDirectory();
    const servers: Server[] = [];
    const listen = async (name: string): Promise<void> => {
      const server = createServer().listen(name);
      servers.push(server);
      await once(server, 'listening');
    };
    try {
      assert.deepEqual(socketsOfDaemon(process.pid, uid), { socket: undefined, adminSocket: undefined });
      const elsewhere = path.join(directory.path, 'elsewhere');
      await listen(elsewhere);
      const row = listeningSockets('self').find((socket) => socket.path === elsewhere);
      const forged = '/tmp/a/virtlockd-sock';
      await listen(`\0${process.pid}\n0: 2 0 10000 1 1 ${row?.inode ?? ''} ${forged}`);
      assert.ok(listensAt('self').includes(forged), 'a row is forged');
      assert.deepEqual(socketsOfDaemon(process.pid, uid), { socket: undefined, adminSocket: undefined });
    } finally {
      for (const server of servers) server.close();
      directory.remove();
    }
  });

  it('is beyond others if they cannot write on the way to it', () => {
    const directory = temporaryDirectory();
    try {
      assert.equal(isBeyondOthers('/proc/self/../version', 0), false, 'not as it is');
      assert.equal(isBeyondOthers('/etc/passwd', 0), true);
      // By links of root's, as /var/run is one.
      assert.equal(isBeyondOthers('/bin/sh', 0), true);
      // By one of somebody else's, or in a directory in which anybody can write.
      symlinkSync('/etc/passwd', path.join(directory.path, 'link'));
      assert.equal(isBeyondOthers(path.join(directory.path, 'link'), uid), false);
      // Below a directory in which anybody can write, or a user's own.
      assert.equal(isBeyondOthers(directory.path, uid), false);
      assert.equal(isBeyondOthers('/none', 0), false);
    } finally {
      directory.remove();
    }
  });

  it('is when it was executed, by a pid file that has its pid', () => {
    const directory = temporaryDirectory();
    const files: number[] = [];
    try {
      const pidFile = (name: string, text: string, time: number): void => {
        const file = path.join(directory.path, name);
        writeFileSync(file, text);
        utimesSync(file, time, time);
        files.push(openSync(file, 'r'));
      };
      // A disk of such a name, whose owner gives it any time.
      pidFile('disk.pid', 'no pid', 4_000_000_000);
      assert.equal(imageStart(process.pid), 0);
      pidFile('virtlockd.pid', `${process.pid}\n`, 1_700_000_000);
      pidFile('other.pid', `${process.pid}\n`, 4_000_000_000);
      assert.equal(imageStart(process.pid), 1_700_000_000);
    } finally {
      for (const fd of files) closeSync(fd);
      directory.remove();
    }
  });
});
