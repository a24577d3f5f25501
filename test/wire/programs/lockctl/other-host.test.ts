/** Locks of another host, on storage that both have mounted: `who`, `why` and `check`, and a lock file that was made again there. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Gluster } from '../../../../src/lab/gluster.ts';
import { eventually, type Finished, type Running } from '../../../../src/lab/process.ts';
import { missingDaemon, missingGluster } from '../../../../src/lab/requirements.ts';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { checkout } from '../../../../src/lab/trees.ts';
import { autocreate, lock } from '../../../../src/lab/wire.ts';
import { skipIf } from '../../../support/skip.ts';

const program = join(checkout, 'bin/virt-lockctl');
/** Above the highest pid. */
const owner = 5_000_000;

/** Makes a file if it is missing, locks it as libvirt's C daemon does, and holds it. */
const HOLDER = `import fcntl, os, sys, time
fcntl.lockf(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
print('held', flush=True)
time.sleep(60)
`;

const VOLUME = 'L8eW5W-abcd-EFGH-1234-ijkl-MNOP-qrstuv';
const hashOf = (path: string): string => createHash('sha256').update(path).digest('hex');

describe('virt-lockctl about locks of other hosts', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let peer: Awaited<ReturnType<LockDaemon['connect']>>;
  const holders: Running[] = [];

  const lockctl = async (...args: readonly string[]): Promise<Finished> => daemon.lab.run(program, args);
  const holdAsOther = async (file: string): Promise<Running> => {
    const holder = daemon.lab.spawn('/usr/bin/python3', ['-c', HOLDER, file]);
    holders.push(holder);
    await eventually('it holds the file', () => {
      if (holder.finished !== undefined) throw new Error(holder.output);
      return holder.output.includes('held');
    });
    return holder;
  };

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
    peer = await daemon.connect();
    await peer.must(lock.register({ pid: owner, name: 'web' }));
  });

  afterEach(async () => {
    for (const holder of holders.splice(0)) await holder.stop('SIGKILL');
  });

  after(async () => {
    (peer as typeof peer | undefined)?.close();
    await (daemon as LockDaemon | undefined)?.stop();
    await (daemon as LockDaemon | undefined)?.lab.close();
  });

  /**
   * An operator deletes the lock file of a guest that runs, and another host makes it again.
   *
   * @param here the directory as this host has it @param there as the other one has it
   */
  async function remakeLockFile(here: string, there: string): Promise<void> {
    await peer.must(lock.createLockspace(here));
    await peer.must(lock.acquire(here, 'key', autocreate));
    assert.equal((await daemon.lab.run('rm', [join(there, 'key')])).code, 0);
    await holdAsOther(join(there, 'key'));
  }

  async function releaseLeavesIt(here: string, there: string): Promise<void> {
    const inode = (): bigint => statSync(daemon.lab.outside(join(there, 'key')), { bigint: true }).ino;
    const before = inode();
    await peer.must(lock.release(here, 'key'));
    assert.equal(inode(), before);
    await eventually('the other host has the lock', async () =>
      (await lockctl('why', '--lockspace', here, 'key')).stdout.startsWith('It would be refused: '),
    );
    assert.equal((await lockctl('check')).code, 0);
  }

  const exchanged =
    /^error: .*\/key: another file is at this path now, and the lock on the old file does not guard it$/m;

  it('a lock file that was deleted and made again is an error of check, and a release leaves the new one', async () => {
    const directory = join(daemon.lab.directory, 'remade');
    await remakeLockFile(directory, directory);
    const { code, stdout } = await lockctl('check');
    assert.equal(code, 1);
    assert.match(stdout, exchanged);
    assert.match((await lockctl('who', join(directory, 'key'))).stdout, /the file at its path was exchanged/);
    await releaseLeavesIt(directory, directory);
  });

  describe('on a GlusterFS', () => {
    let gluster: Gluster;
    let again: string;

    before(async function () {
      skipIf(this, missingGluster());
      gluster = await Gluster.start(daemon.lab);
      again = await gluster.mountAgain(daemon.lab);
    });

    after(async () => {
      await (gluster as Gluster | undefined)?.end();
    });

    it('a lock file that was deleted and made again by another host is an error of check, once no cache hides it', async () => {
      const directory = gluster.at('remade');
      await remakeLockFile(directory, join(again, 'remade'));
      await eventually('check finds it', async () => exchanged.test((await lockctl('check')).stdout));
      assert.match((await lockctl('who', gluster.at('remade/key'))).stdout, /the file at its path was exchanged/);
      await releaseLeavesIt(directory, join(again, 'remade'));
    });

    it('a release leaves such a file also while a cache hides that it was made again', async () => {
      const directory = gluster.at('hidden');
      await remakeLockFile(directory, join(again, 'hidden'));
      await releaseLeavesIt(directory, join(again, 'hidden'));
    });

    it('names the lock file that stands for a disk, the file system, and who frees it', async () => {
      const disk = gluster.at('db.img');
      await daemon.lab.run('touch', [disk]);
      await peer.must(lock.createLockspace(gluster.at('locks')));
      const file = `locks/${hashOf(disk)}`;
      await holdAsOther(join(again, file));
      const who = await lockctl('who', disk);
      assert.equal(who.code, 0);
      assert.match(
        who.stdout,
        new RegExp(`^Another host holds a lock as ${hashOf(disk)} in lockspace ${gluster.at('locks')}, or a`),
      );
      assert.match(who.stdout, /^The file system is fuse\.glusterfs: its bricks .* Do not delete the file/m);
      const found = JSON.parse((await lockctl('who', '--json', disk)).stdout) as Record<string, unknown>;
      assert.deepEqual([found.elsewhere, found.guard], [true, { lockspace: gluster.at('locks'), name: hashOf(disk) }]);
      assert.deepEqual(found.locks, []);
      const why = await lockctl('why', disk);
      assert.equal(why.code, 1);
      assert.match(
        why.stdout,
        /^It would be refused: in lockspace .*\/locks, which guards this disk: another host, .* holds a write lock\. The file system is fuse\.glusterfs/,
      );
      assert.match(why.stdout, /^ {2}the file itself: no lock on .* is in the way\./m);
    });
  });

  describe('about a block device', () => {
    const device = '/dev/loop0';

    before(function () {
      if (!existsSync(device)) skipIf(this, 'there is no loop device');
      // As udev would have it of a logical volume.
      const entry = `I:1\nE:DM_UUID=LVM-${'a'.repeat(32)}${VOLUME.replaceAll('-', '')}\n`;
      daemon.lab.write(`/run/udev/data/b7:0`, entry);
    });

    it("finds its lock by the logical volume's UUID, of this host", async () => {
      const directory = join(daemon.lab.directory, 'volumes');
      await peer.must(lock.createLockspace(directory));
      await peer.must(lock.acquire(directory, VOLUME, autocreate));
      const held = /^web \(pid 5000000, dead\) holds an exclusive lock as L8eW5W-.* in lockspace .*\/volumes$/m;
      assert.match((await lockctl('who', device)).stdout, held);
      assert.match(
        (await lockctl('why', device)).stdout,
        /^It would be refused: in lockspace .*\/volumes, which guards this disk/,
      );
      await peer.must(lock.release(directory, VOLUME));
    });

    it("finds its lock by the logical volume's UUID, of another daemon", async () => {
      const directory = join(daemon.lab.directory, 'volumes');
      const holder = await holdAsOther(join(directory, VOLUME));
      const { code, stdout } = await lockctl('who', device);
      assert.equal(code, 0);
      assert.match(stdout, new RegExp(`^Not a guest of this daemon: pid ${holder.pid} `, 'm'));
      const why = await lockctl('why', device);
      assert.match(why.stdout, new RegExp(`^It would be refused: in lockspace .*: pid ${holder.pid} `));
    });

    it('says what was not looked for', async () => {
      assert.equal((await daemon.lab.run('mount', ['-t', 'tmpfs', 'tmpfs', '/dev/shm'])).code, 0);
      assert.equal((await daemon.lab.run('mknod', ['/dev/shm/disk', 'b', '250', '77'])).code, 0);
      const note =
        /^ *Not looked for: a lock by the UUID of a logical volume or by a SCSI id \(sysfs does not show the device\)\.$/m;
      assert.match((await lockctl('who', '/dev/shm/disk')).stdout, note);
      assert.match((await lockctl('why', '/dev/shm/disk')).stdout, note);
      assert.doesNotMatch((await lockctl('who', device)).stdout, /Not looked for/);
    });
  });
});
