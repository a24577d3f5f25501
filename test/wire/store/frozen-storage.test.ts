/** The daemon dies while a local file system is frozen: the next one serves at once, and finishes there what had begun. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FreezingStorage } from '../../../src/lab/freezing-storage.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFreeze } from '../../../src/lab/requirements.ts';
import { autocreate, lock } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

const BUSY = 87;

describe('a daemon that is killed while a local file system is frozen', function () {
  this.timeout(60_000);
  let scene: StoreScene;
  let storage: FreezingStorage;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFreeze());
  });

  beforeEach(async () => {
    scene = await StoreScene.begin();
    storage = await FreezingStorage.start({
      directory: scene.directory,
      run: async (program, args = []) =>
        new Promise((resolve) => {
          execFile(program, args, (error, stdout, stderr) => {
            resolve({ code: error === null ? 0 : 1, signal: null, stdout, stderr });
          });
        }),
    });
  });

  afterEach(async () => {
    await storage.end();
    await scene.end();
  });

  it('leaves a release that had begun, and the locks there, to the next one', async () => {
    const [guest, other, owner] = [await scene.client(OWNER), await scene.client(RIVAL), await scene.owner()];
    await guest.must(lock.acquire('', storage.at('kept'), autocreate));
    await owner.call(lock.acquire('', storage.at('lease'), autocreate));
    await storage.freeze();
    owner.kill();
    const interrupted = other.ask(lock.acquire('', storage.at('new'), autocreate)).catch(() => undefined);
    await eventually('a helper waits', () =>
      storageHelpers(storage.mount).some((pid) => readFileSync(`/proc/${pid}/stat`, 'latin1').includes(' D ')),
    );
    for (let turn = 0; turn < 2; turn++) {
      await scene.kill();
      const rival = await scene.client(RIVAL);
      await rival.must(lock.acquire('', join(scene.directory, 'local'), autocreate));
      await rival.must(lock.release('', join(scene.directory, 'local')));
      assert.equal((await rival.ask(lock.acquire('', storage.at('kept'))))?.code, BUSY);
    }
    await interrupted;
    const rival = await scene.client(RIVAL);
    const asked = rival.ask(lock.acquire('', storage.at('lease'), autocreate));
    await storage.thaw();
    assert.equal(await asked, undefined);
    await rival.must(lock.release('', storage.at('lease')));
    assert.ok(!existsSync(storage.at('lease')));
    await eventually('one helper is left', () => storageHelpers(storage.mount).length === 1);
  });
});
