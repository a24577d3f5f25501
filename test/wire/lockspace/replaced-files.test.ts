/** Files that vanish from a file server, or are replaced there by another host, while the kernel's cache goes on naming the old ones. */
import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { HangingStorage, unmount } from '../../../src/lab/hanging-storage.ts';
import { makePlaceDirectory, removePlaceDirectory } from '../../../src/lab/place.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';
import { Host } from '../../support/host.ts';
import { skipIf } from '../../support/skip.ts';
import { BUSY, NOBODY } from './storage-scene.ts';

const { EIO, ENOENT, ESTALE } = constants.errno;
const NAME = 'lease';

describe('a file on a server that has it no more, while a cache has', function () {
  this.timeout(60_000);
  let directory: string;
  let storage: HangingStorage;
  /** Where node7 and node8 have it mounted. */
  let mounts: readonly [string, string];
  let hosts: Host[];

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
  });

  beforeEach(async () => {
    directory = makePlaceDirectory(0o755);
    mounts = [join(directory, 'seven'), join(directory, 'eight')];
    storage = await HangingStorage.mountAt(mounts[0], { hasOwnLocks: true, hasCachedNames: true, also: mounts[1] });
    hosts = [];
  });

  afterEach(async () => {
    await storage.letGo();
    for (const host of hosts) await host.close();
    await storage.end();
    for (const mount of mounts) unmount(mount);
    removePlaceDirectory(directory);
  });

  async function peers(): Promise<[Peer, Peer]> {
    const made: Peer[] = [];
    for (const [index, mount] of mounts.entries()) {
      const host = await Host.start(`node${7 + index}`, {
        share: [mount],
        configuration: 'lock_confirm_interval = 0\n',
      });
      hosts.push(host);
      made.push(await host.connect(index === 0 ? 'db' : 'web', NOBODY + index, mount));
    }
    const [db, web] = made;
    assert.ok(db !== undefined && web !== undefined);
    return [db, web];
  }

  /** An operator deletes the file on node8, and a guest there makes and locks it anew. */
  async function replace(web: Peer): Promise<void> {
    rmSync(join(mounts[1], NAME));
    await web.must(lock.acquire(mounts[1], NAME, autocreate));
    // node7 goes on seeing the old one.
    assert.ok(existsSync(join(mounts[0], NAME)));
  }

  /** node8 has its file, and no third one gets it. */
  async function assertKept(db: Peer, web: Peer): Promise<void> {
    await storage.letGo();
    assert.ok(existsSync(join(mounts[1], NAME)));
    assert.notEqual(await db.ask(lock.acquire(mounts[0], NAME, autocreate)), undefined);
    await web.must(lock.release(mounts[1], NAME));
    assert.ok(!existsSync(join(mounts[1], NAME)));
  }

  it('leaves the new one alone when it is deleted', async () => {
    const [db, web] = await peers();
    await db.must(lock.createResource(mounts[0], NAME));
    await replace(web);
    assert.equal((await db.ask(lock.deleteResource(mounts[0], NAME)))?.code, BUSY);
    await assertKept(db, web);
  });

  it('is not removed under another host that asks for its lock in the midst of a release, though that was lost', async () => {
    const [db, web] = await peers();
    await db.must(lock.acquire(mounts[0], NAME, autocreate));
    await storage.drop();
    const before = storage.requests.length;
    await storage.hang('unlink');
    const released = db.must(lock.release(mounts[0], NAME));
    await storage.asked('unlink', before);
    assert.equal((await web.ask(lock.acquire(mounts[1], NAME, autocreate)))?.code, BUSY);
    await storage.letGo();
    await released;
    await web.must(lock.acquire(mounts[1], NAME, autocreate));
    assert.equal(storage.violations, 0);
    await assertKept(db, web);
  });

  for (const [what, errno] of [
    ['says that it has no such file, as one with replicas does', ENOENT],
    ['says that its handle is stale', ESTALE],
    ['cannot say', EIO],
  ] as const)
    it(`leaves the new one alone when it is released and the server ${what}`, async () => {
      const [db, web] = await peers();
      await db.must(lock.acquire(mounts[0], NAME, autocreate));
      await replace(web);
      await storage.fail('getattr', errno);
      await db.must(lock.release(mounts[0], NAME));
      await assertKept(db, web);
    });

  for (const [what, errno] of [
    ['there is no such file', ENOENT],
    ['its handle is stale', ESTALE],
  ] as const)
    it(`is made anew when it vanishes between open and lock, so that ${what}`, async () => {
      const [db] = await peers();
      await db.must(lock.createResource(mounts[0], NAME));
      await storage.fail('setlk', errno, 1);
      await db.must(lock.acquire(mounts[0], NAME, autocreate));
      // A server that goes on saying so is believed.
      await db.must(lock.createResource(mounts[0], 'other'));
      await storage.fail('setlk', errno);
      assert.match(
        (await db.ask(lock.acquire(mounts[0], 'other', autocreate)))?.message ?? '',
        /Unable to acquire lock/,
      );
    });
});
