import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { eventually, executeAgain } from '../../../src/lab/process.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

describe('a daemon that cannot enlarge its record', function () {
  this.timeout(60_000);
  let scene: StoreScene;

  beforeEach(async () => {
    scene = await StoreScene.begin();
  });
  afterEach(async () => {
    await scene.end();
  });

  const limit = (soft: number): void => {
    execFileSync('prlimit', ['--pid', String(scene.pid), `--nofile=${soft}:`]);
  };
  const connect = async (count: number): Promise<Peer[]> => {
    const made: Peer[] = [];
    for (let index = 0; index < count; index++) made.push(await scene.client());
    return made;
  };
  /** So that memory needs a descriptor, of which there is none. */
  async function registerWithoutDescriptors(count: number): Promise<void> {
    const made = await connect(count);
    for (const peer of made) await peer.ask(lock.release('', 'nothing'));
    const open = new Set(readdirSync(`/proc/${scene.pid}/fd`).map(Number));
    let free = 0;
    while (open.has(free)) free++;
    limit(free);
    for (const peer of made) await peer.must(lock.register({ ...OWNER, name: 'n'.repeat(60_000) }));
    limit(1024);
  }

  it('goes on in the one that it has, while what there is fits', async () => {
    const [peer] = await connect(1);
    await peer?.must(lock.register(OWNER));
    await peer?.must(lock.acquire('', scene.at('one'), autocreate));
    for (const one of await connect(3)) {
      await one.must(lock.register({ ...OWNER, name: 'n'.repeat(60_000) }));
      one.close();
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    await registerWithoutDescriptors(6);
    assert.match(scene.manager.log, /no memory for a larger state record/);
    await new Promise((resolve) => setTimeout(resolve, 400));
    await scene.manager.kill(scene.pid);
    const rival = await scene.client(RIVAL);
    assert(await scene.isRefused(rival, 'one'));
  });

  it('takes all out of the store, and begins another one as the next program, which loses nothing then', async () => {
    const [peer, other] = await connect(2);
    await other?.must(lock.register(RIVAL));
    for (let index = 0; index < 20; index++) await other?.must(lock.acquire('', scene.at(`other${index}`), autocreate));
    await peer?.must(lock.register(OWNER));
    for (let index = 0; index < 20; index++) await peer?.must(lock.acquire('', scene.at(`f${index}`), autocreate));
    await registerWithoutDescriptors(12);
    await eventually('the log says it', () => scene.manager.log.includes('The daemon no longer records its state'));
    for (let index = 0; index < 20; index++) await other?.must(lock.release('', scene.at(`other${index}`)));
    await eventually('nothing is in the store', async () => (await scene.manager.stored()).length === 0);
    await executeAgain(scene.pid);
    await scene.manager.next('ready');
    await eventually('all is in the store', async () => {
      return (await scene.storedFiles()).length === 20;
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    await scene.manager.kill(scene.pid);
    const rival = await scene.client(RIVAL);
    for (let index = 0; index < 20; index++) assert(await scene.isRefused(rival, `f${index}`));
    assert(!/had been lost|stays held|Cannot reach/.test(scene.manager.log));
  });
});
