/** The daemon dies after it has found that a lock on shared storage is lost: the next one knows it, though no file server answers. */
import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { Holding, type LockState } from '../../../xdr/programs/inquire.ts';
import type { HangingStorage } from '../../../src/lab/hanging-storage.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { lock } from '../../../src/lab/wire.ts';
import { LockType } from '../../../src/posix/posix.ts';
import { setLock } from '../../../src/posix/record-lock.ts';
import { connectClient, InquireClient } from '../../../src/programs/lockctl/inquire-client.ts';
import { resolveTarget } from '../../../src/programs/lockctl/target.ts';
import { skipIf } from '../../support/skip.ts';
import { StoreScene } from './scene.ts';

describe('a daemon that is killed after it has lost a lock to another host', function () {
  this.timeout(60_000);
  let scene: StoreScene;
  let storage: HangingStorage;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
  });

  beforeEach(async () => {
    scene = await StoreScene.begin();
    storage = await scene.mount('storage');
  });

  afterEach(async () => scene.end());

  /** @param ask the file server is asked first */
  async function state(ask: boolean): Promise<LockState> {
    const daemon = new InquireClient(resolveTarget(scene.manager.adminSocket), connectClient);
    try {
      const [found, ...others] = await daemon.lockStates(ask);
      assert.ok(found !== undefined && others.length === 0);
      return found;
    } finally {
      daemon.close();
    }
  }

  it('leaves that to the next one, with when it was found', async () => {
    const guest = await scene.client({ pid: 4_194_305 });
    const disk = join(storage.mount, 'disk');
    await guest.must(lock.acquire('', disk));
    await eventually('it is confirmed', async () => (await state(true)).holding === Holding.HELD);
    await storage.drop();
    const rival = openSync(disk, 'r+');
    try {
      assert.equal(setLock('ofd', rival, LockType.WRITE), 0);
      const found = await state(true);
      assert.equal(found.holding, Holding.TAKEN);
      assert.ok(found.confirmed > 0 && found.lost >= found.confirmed);
      await storage.hang('getlk');
      await scene.kill();
      const next = await state(false);
      assert.deepEqual([next.holding, next.lost, next.confirmed], [Holding.TAKEN, found.lost, found.confirmed]);
      // It has taken nothing, and guards nothing for anybody else.
      const other = await scene.client({ pid: 4_194_306 });
      assert.notEqual(await other.ask(lock.acquire('', disk)), undefined);
      await storage.letGo();
      assert.equal((await state(true)).holding, Holding.TAKEN);
    } finally {
      closeSync(rival);
    }
    await eventually('it is taken again', async () => (await state(true)).holding === Holding.REGAINED);
    await scene.kill();
    assert.ok((await state(false)).regained > 0);
  });
});
