/** Locks outlive SIGUSR1. */
import assert from 'node:assert/strict';
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { autocreate, encode, lock, shared } from '../../../../lab/wire.ts';
import type { WrittenCheck } from '../../check.ts';
import { restartCheck } from './restart-check.ts';
import { busy, internal, refused, type Scene } from './scene.ts';

/** A check that resources with these names outlive the restart. */
function names(title: string, promise: string, all: readonly string[], known?: string): WrittenCheck {
  const run = async (scene: Scene): Promise<void> => {
    const holder = await scene.owner();
    for (const name of all) await holder.must(lock.acquire('', scene.file(name)));
    await scene.restart();
    for (const name of all) {
      const path = join(scene.dir, name);
      assert.equal(scene.lockOn(path), 'WRITE 0 0', name);
      await holder.must(lock.release('', path));
    }
  };
  return restartCheck(title, promise, run, { known });
}

export const lockChecks: readonly WrittenCheck[] = [
  restartCheck(
    'an exclusive lock stays',
    'The lock in the kernel and the hold in the daemon outlive SIGUSR1.',
    async (scene) => {
      const { disk, holder } = await scene.held();
      await scene.restart();
      assert.equal(scene.lockOn(disk), 'WRITE 0 0');
      await refused(await scene.owner(), lock.acquire('', disk), busy);
      await refused(holder, lock.acquire('', disk), busy);
    },
  ),
  restartCheck(
    'a held resource can be released',
    'Its owner releases afterwards what it acquired before, and others get it.',
    async (scene) => {
      const { disk, holder } = await scene.held();
      await scene.restart();
      await holder.must(lock.release('', disk));
      assert.equal(scene.lockOn(disk), undefined);
      await (await scene.owner()).must(lock.acquire('', disk));
    },
  ),
  restartCheck(
    'only the owner releases',
    'Afterwards as before, no owner releases the lock of another.',
    async (scene) => {
      const { disk } = await scene.held();
      await scene.restart();
      await refused(await scene.owner(), lock.release('', disk), internal);
      assert.equal(scene.lockOn(disk), 'WRITE 0 0');
    },
  ),
  restartCheck('a shared lock stays shared', 'Others may join it, and none gets it exclusively.', async (scene) => {
    const { disk } = await scene.held(shared);
    await scene.restart();
    assert.equal(scene.lockOn(disk), 'READ 0 0');
    const other = await scene.owner();
    await refused(other, lock.acquire('', disk), busy);
    await other.must(lock.acquire('', disk, shared));
  }),
  restartCheck('an exclusive lock stays exclusive', 'No sharer joins it afterwards.', async (scene) => {
    const { disk } = await scene.held();
    await scene.restart();
    await refused(await scene.owner(), lock.acquire('', disk, shared), busy);
  }),
  restartCheck(
    'every owner of a shared resource stays',
    'Each releases its own hold, and the last one the lock.',
    async (scene) => {
      const disk = scene.file('disk');
      const owners = [await scene.owner(), await scene.owner(), await scene.owner()];
      for (const owner of owners) await owner.must(lock.acquire('', disk, shared));
      await scene.restart();
      for (const owner of owners) {
        assert.equal(scene.lockOn(disk), 'READ 0 0');
        await owner.must(lock.release('', disk));
      }
      assert.equal(scene.lockOn(disk), undefined);
    },
  ),
  restartCheck('two holds of one owner stay two', 'They are released one by one.', async (scene) => {
    const disk = scene.file('disk');
    const holder = await scene.owner();
    for (let count = 0; count < 2; count++) await holder.must(lock.acquire('', disk, shared));
    await scene.restart();
    await holder.must(lock.release('', disk));
    assert.equal(scene.lockOn(disk), 'READ 0 0');
    await holder.must(lock.release('', disk));
    assert.equal(scene.lockOn(disk), undefined);
    await refused(holder, lock.release('', disk), busy);
  }),
  restartCheck(
    'an autocreated file goes with its release',
    'That the daemon made the file is not forgotten.',
    async (scene) => {
      const disk = join(scene.dir, 'made');
      const holder = await scene.owner();
      await holder.must(lock.acquire('', disk, autocreate));
      await scene.restart();
      assert.ok(existsSync(disk));
      await holder.must(lock.release('', disk));
      assert.ok(!existsSync(disk), 'the file is still there');
    },
  ),
  restartCheck(
    'a shared autocreated file goes with its last sharer',
    'It is there until the last of them releases.',
    async (scene) => {
      const disk = join(scene.dir, 'made');
      const owners = [await scene.owner(), await scene.owner()];
      for (const owner of owners) await owner.must(lock.acquire('', disk, shared | autocreate));
      await scene.restart();
      await owners[0]?.must(lock.release('', disk));
      assert.ok(existsSync(disk));
      await owners[1]?.must(lock.release('', disk));
      assert.ok(!existsSync(disk), 'the file is still there');
    },
  ),
  restartCheck(
    'a file that was there stays at its release',
    'The daemon does not remove a file that it did not make.',
    async (scene) => {
      const { disk, holder } = await scene.held();
      await scene.restart();
      await holder.must(lock.release('', disk));
      assert.ok(existsSync(disk));
    },
  ),
  restartCheck(
    'locks in every lockspace stay',
    'Resources belong to their lockspaces afterwards as before.',
    async (scene) => {
      const holder = await scene.owner();
      const spaces = ['one', 'two', 'three'].map((name) => scene.directory(name));
      for (const space of spaces) {
        await holder.must(lock.newLockspace(space));
        await holder.must(lock.acquire(space, 'lease', autocreate));
      }
      await scene.restart();
      for (const space of spaces) {
        assert.equal(scene.lockOn(join(space, 'lease')), 'WRITE 0 0');
        await refused(holder, lock.acquire(space, 'lease', autocreate), busy);
        await holder.must(lock.release(space, 'lease'));
      }
    },
  ),
  restartCheck('an empty lockspace stays known', 'It need not be made again, and cannot be.', async (scene) => {
    const holder = await scene.owner();
    const space = scene.directory('space');
    await holder.must(lock.newLockspace(space));
    await scene.restart();
    await refused(holder, lock.newLockspace(space), internal);
    await holder.must(lock.acquire(space, 'lease', autocreate));
  }),
  restartCheck('a lockspace that was never made stays unknown', 'Nothing is in it to be acquired.', async (scene) => {
    const holder = await scene.owner();
    await scene.restart();
    await refused(holder, lock.acquire(scene.dir, 'lease', autocreate), internal);
  }),
  restartCheck('five hundred locks stay', 'Their number does not matter.', async (scene) => {
    const holder = await scene.owner();
    const disks = Array.from({ length: 500 }, (_, index) => scene.file(`disk${index}`));
    for (const disk of disks) await holder.must(lock.acquire('', disk));
    const before = scene.daemon.locks();
    await scene.restart();
    assert.deepEqual(scene.daemon.locks(), before);
    for (const disk of disks) await holder.must(lock.release('', disk));
  }),
  names('names with special characters stay', 'Quotes, backslashes and control characters come back as they were.', [
    'a "quoted" one',
    'back\\slash',
    'two\nlines',
    'tab\there',
    'bell\x07',
    'percent %s%n',
    '{"json": 1}',
  ]),
  names(
    'names in other alphabets stay',
    'Letters beyond ASCII come back as they were.',
    ['größe', '磁盘', 'диск', '💾'],
    'C 11.3.0 refuses its own state with such a name in it, and exits with every lock lost',
  ),
  restartCheck(
    'another process finds the lock at every moment',
    'It is never free, not even between the two programs.',
    async (scene) => {
      const { disk } = await scene.held();
      const state = { restarted: false };
      const watch = async (): Promise<void> => {
        while (!state.restarted) {
          assert.equal(scene.lockOn(disk), 'WRITE 0 0');
          await turn();
        }
      };
      const restart = async (): Promise<void> => {
        try {
          await scene.restart();
        } finally {
          state.restarted = true;
        }
      };
      await Promise.all([watch(), restart()]);
    },
  ),
  restartCheck(
    'a foreign lock stays in the way',
    'A file that another process has locked is refused afterwards as before.',
    async (scene) => {
      const disk = scene.file('disk');
      const foreigner = scene.actor();
      await foreigner.lock(disk, true, 0, 1);
      const owner = await scene.owner();
      await refused(owner, lock.acquire('', disk), busy);
      await scene.restart();
      await refused(owner, lock.acquire('', disk), busy);
      await foreigner.unlock(disk);
      await owner.must(lock.acquire('', disk));
    },
  ),
  restartCheck(
    'a held file that was moved stays locked',
    'The lock is on the file, also when its path names another.',
    async (scene) => {
      const { disk, holder } = await scene.held();
      renameSync(disk, `${disk}.moved`);
      writeFileSync(disk, '');
      await scene.restart();
      assert.equal(scene.lockOn(`${disk}.moved`), 'WRITE 0 0');
      assert.equal(scene.lockOn(disk), undefined);
      await holder.must(lock.release('', disk));
      assert.equal(scene.lockOn(`${disk}.moved`), undefined);
    },
  ),
  restartCheck('locks stay over ten restarts', 'Nothing wears off.', async (scene) => {
    const holder = await scene.owner();
    const space = scene.directory('space');
    await holder.must(lock.newLockspace(space));
    await holder.must(lock.acquire(space, 'lease', shared | autocreate));
    await holder.must(lock.acquire('', scene.file('disk')));
    const before = scene.daemon.locks();
    for (let count = 0; count < 10; count++) await scene.restart();
    assert.deepEqual(scene.daemon.locks(), before);
    await holder.must(lock.release(space, 'lease'));
    assert.ok(!existsSync(join(space, 'lease')));
  }),
  restartCheck(
    'an owner that ends afterwards loses its locks and its life',
    'The end of its own connection still ends the process that registered itself.',
    async (scene) => {
      const disk = scene.file('disk');
      const guest = scene.actor();
      await guest.open('a', scene.daemon.socket);
      await guest.send('a', encode({ ...lock.register({ pid: guest.pid }), serial: 1 }));
      await guest.send('a', encode({ ...lock.acquire('', disk), serial: 2 }));
      await scene.until('the lock is there', () => scene.lockOn(disk) !== undefined);
      await scene.restart();
      assert.equal(scene.lockOn(disk), 'WRITE 0 0');
      await guest.close('a');
      assert.equal(await guest.ended, 'SIGTERM');
      await scene.until('the lock is gone', () => scene.lockOn(disk) === undefined);
    },
  ),
  restartCheck(
    'who calls for an owner may hang up afterwards',
    "The owner's locks stay until it ends or releases them.",
    async (scene) => {
      const { disk, holder: caller } = await scene.held(0, { pid: 5_100_000 });
      await scene.restart();
      caller.close();
      const again = await scene.owner({ pid: 5_100_000 });
      assert.equal(scene.lockOn(disk), 'WRITE 0 0');
      await again.must(lock.release('', disk));
    },
  ),
];
