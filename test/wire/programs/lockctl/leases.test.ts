/** `virt-lockctl lease`, with directories spelt in other ways and files that are locked by other names. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LockType, posix } from '../../../../src/posix/posix.ts';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { lockOn } from '../../../../src/lab/observe.ts';
import type { Finished } from '../../../../src/lab/process.ts';
import { HangingStorage } from '../../../../src/lab/hanging-storage.ts';
import { missingDaemon, missingFuse } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout } from '../../../../src/lab/trees.ts';
import { lock, type Peer } from '../../../../src/lab/wire.ts';

const program = join(checkout, 'bin/virt-lockctl');

describe('virt-lockctl lease', function () {
  this.timeout(30_000);
  let daemon: LockDaemon;
  let holder: Peer;
  let leases: string;

  const lockctl = async (...args: readonly string[]): Promise<Finished> => daemon.lab.run(program, args);
  const must = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await lockctl(...args);
    assert.deepEqual([code, stderr], [0, ''], `virt-lockctl ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  };
  const refused = async (pattern: RegExp, ...args: readonly string[]): Promise<void> => {
    const { code, stderr } = await lockctl(...args);
    assert.match(stderr, pattern);
    assert.equal(code, 1);
  };

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
    leases = join(daemon.lab.directory, 'leases');
    await must('lease', 'create', leases, 'key');
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: 5_000_000, name: 'guest' }));
    await holder.must(lock.acquire(leases, 'key'));
  });

  after(async () => {
    (holder as Peer | undefined)?.close();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  for (const [what, spell] of Object.entries({
    'a slash at its end': (directory: string) => `${directory}/`,
    'doubled slashes': (directory: string) => directory.replace(/\/leases$/, '//leases'),
    'dots in it': (directory: string) => `${directory}/./../leases/.`,
  })) {
    it(`takes a directory with ${what} for the one that it is`, async () => {
      const spelt = spell(leases);
      assert.match(await must('lease', 'create', spelt, 'other'), /<lockspace>leases<\/lockspace>/);
      await must('lockspace', 'create', spelt);
      assert.match(await must('lease', 'list', spelt), /^key +guest \(pid 5000000\)$/m);
      await refused(/not deleted: .*\/leases\/key is locked by guest \(pid 5000000\)/, 'lease', 'delete', spelt, 'key');
      await must('lease', 'delete', spelt, 'other');
      const known = JSON.parse(await must('lockspace', 'list', '--json')) as { directory: string }[];
      assert.deepEqual(known.map(({ directory }) => directory).sort(), ['', leases]);
      assert.equal(lockOn(daemon.pid, join(leases, 'key')), 'WRITE 0 0');
    });
  }

  it('lists no process of this host as the holder of a lock that another host has', async function () {
    skipIf(this, missingFuse());
    const storage = await HangingStorage.mountIn(daemon.lab, { hasOwnLocks: true });
    try {
      // A file system names the process that has the lock on the other host. Here another one has that number.
      await storage.holder(process.pid);
      assert.match(await must('lease', 'list', storage.mount), /^disk +another host, or an OFD lock$/m);
      const [lease] = JSON.parse(await must('lease', 'list', '--json', storage.mount)) as {
        holders: { pid: unknown }[];
      }[];
      assert.deepEqual(
        lease?.holders.map(({ pid }) => pid),
        [null],
      );
      await storage.holder(0);
      assert.match(await must('lease', 'list', storage.mount), /^disk +-$/m);
    } finally {
      await storage.end();
    }
  });

  it('makes the directory of a lockspace that the daemon knows again, or says that it cannot', async () => {
    const directory = join(daemon.lab.directory, 'known');
    await must('lockspace', 'create', directory);
    rmdirSync(directory);
    await must('lockspace', 'create', directory);
    assert.equal(statSync(directory).mode & 0o777, 0o700);
    rmdirSync(directory);
    await must('lease', 'create', directory, 'key');
    rmSync(directory, { recursive: true });
    writeFileSync(directory, '');
    await refused(/known is no directory: no lock can be acquired in this lockspace/, 'lockspace', 'create', directory);
  });

  it('keeps a file that the daemon holds as part of another lockspace', async () => {
    const link = join(daemon.lab.directory, 'link');
    await daemon.lab.run('ln', ['-s', leases, link]);
    await must('lockspace', 'create', link);
    assert.match(await must('lease', 'list', link), /^key +guest \(pid 5000000\)$/m);
    await refused(/link\/key is locked by guest \(pid 5000000\)/, 'lease', 'delete', link, 'key');
    assert.ok(existsSync(join(leases, 'key')));
  });

  it('keeps a file that another process has locked', async () => {
    await must('lease', 'create', leases, 'outside');
    const fd = openSync(join(leases, 'outside'), 'r+');
    try {
      assert.equal(posix.setlk(fd, LockType.WRITE, 0, 1), 0);
      const locked = new RegExp(`not deleted: .*outside is locked by pid ${process.pid} \\(`);
      await refused(locked, 'lease', 'delete', leases, 'outside');
    } finally {
      closeSync(fd);
    }
    assert.ok(existsSync(join(leases, 'outside')));
    await must('lease', 'delete', leases, 'outside');
  });

  it('says that there is none', async () => {
    await refused(/there is no lease .*\/leases\/never/, 'lease', 'delete', leases, 'never');
    writeFileSync(join(daemon.lab.directory, 'file'), '');
    await refused(
      /not deleted: .* is locked \(ENOTDIR\)/,
      'lease',
      'delete',
      join(daemon.lab.directory, 'file'),
      'key',
    );
    assert.equal((await lockctl('lease', 'delete', '', 'key')).code, 2);
  });
});
