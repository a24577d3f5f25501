import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { recordFile } from '../../../src/lab/manager.ts';
import { executeAgain } from '../../../src/lab/process.ts';
import { autocreate, lock } from '../../../src/lab/wire.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

describe('the rounds of the poller that are on record', function () {
  this.timeout(60_000);
  let scene: StoreScene;

  beforeEach(async () => {
    scene = await StoreScene.begin();
  });
  afterEach(async () => {
    await scene.end();
  });

  /** Of the holds that the daemon has, in the order in which they came. */
  function rounds(pid: number): number[] {
    const text = readFileSync(recordFile(pid)).toString('latin1');
    return Array.from(text.matchAll(/"round":(\d+)/g), ([, round]) => Number(round));
  }

  // Else a lock that was granted in a round long ago is taken back for a call of the same number that a death interrupts.
  it('are not those of a later program, after a death or a restart', async () => {
    const acquire = async (name: string): Promise<void> => {
      const peer = await scene.client(OWNER);
      await peer.must(lock.acquire('', scene.at(name), autocreate));
    };
    for (let count = 0; count < 20; count++) await acquire(`first${count}`);
    await scene.client(RIVAL);
    await scene.kill();
    await acquire('second');
    await executeAgain(scene.pid);
    await scene.served();
    await acquire('third');
    const found = rounds(scene.pid);
    assert.equal(found.length, 22);
    assert.deepEqual(
      found,
      [...new Set(found)].sort((one, other) => one - other),
    );
  });
});
