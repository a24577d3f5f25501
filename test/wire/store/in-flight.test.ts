/** Locked files in flight: what is left of them at whatever step the daemon dies, and when they are let go. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { eventually, executeAgain } from '../../../src/lab/process.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';
import { StoredKind, storedName } from '../../../src/store/names.ts';
import { skipIf } from '../../support/skip.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

describe('locked files in flight', function () {
  this.timeout(120_000);
  let scene: StoreScene;
  let peer: Peer;
  let rival: Peer;

  beforeEach(async () => {
    scene = await StoreScene.begin();
    peer = await scene.client(OWNER);
    rival = await scene.client(RIVAL);
  });
  afterEach(async () => {
    await scene.end();
  });

  const acquire = (name: string, flags = autocreate): Promise<unknown> =>
    peer.must(lock.acquire('', scene.at(name), flags));
  const release = (name: string): Promise<unknown> => peer.must(lock.release('', scene.at(name)));
  const isRefused = async (name: string, flags = autocreate): Promise<boolean> => scene.isRefused(rival, name, flags);
  /** Has the daemon die at its nth system call of a kind from now on, during `step`. */
  async function dieAt(call: string, count: number, step: () => Promise<unknown>): Promise<void> {
    await scene.rest();
    const killer = await scene.killer(call, count);
    await step();
    await scene.manager.next('ended');
    await killer.letGo();
    await scene.served();
  }
  const count = async (expected: number): Promise<void> => {
    await eventually(`${expected} are in flight`, async () => (await scene.storedFiles()).length === expected);
  };

  it('are let go soon after their release, wherever they are in the queue', async () => {
    const names = ['a', 'b', 'c', 'd', 'e'];
    for (const name of names) await acquire(name);
    await count(5);
    let left = names.length;
    for (const name of ['c', 'a', 'e', 'b', 'd']) {
      await release(name);
      await count(--left);
    }
  });

  // The turn after the release sends one message for the four others, and removes five.
  for (const [call, most] of Object.entries({ sendmsg: 1, recvfrom: 5 })) {
    it(`are all there when the daemon dies at a ${call} that lets one go`, async () => {
      for (let time = 1; time <= most; time++) {
        // Files that exist, and stay: no storage helper is asked.
        for (const name of ['a', 'b', 'c', 'd', 'e']) {
          writeFileSync(scene.at(name), '');
          await acquire(name, 0);
        }
        await dieAt(call, time, () => release('e'));
        for (const name of ['a', 'b', 'c', 'd']) assert(await isRefused(name), `${name} at ${call} ${time}`);
        assert(!(await isRefused('e')));
        await rival.must(lock.release('', scene.at('e')));
        await count(4);
        for (const name of ['a', 'b', 'c', 'd']) await release(name);
        await count(0);
      }
    });
  }

  it('are all there when the daemon dies again at any step of its start', async () => {
    for (const name of ['a', 'b', 'c']) await acquire(name);
    await scene.kill();
    // The queue has one message then, and after this one more.
    await acquire('d');
    await release('b');
    await count(3);
    for (let time = 1; time <= 12; time++) {
      await scene.rest();
      process.kill(scene.pid, 'SIGKILL');
      await scene.manager.next('ended');
      const { pid: next = 0 } = await scene.manager.next('started');
      const delay = time * 5;
      await new Promise((resolve) => setTimeout(resolve, delay));
      process.kill(next, 'SIGKILL');
      await scene.manager.next('ended');
      await scene.served();
      for (const name of ['a', 'c', 'd']) assert(await isRefused(name), `${name} after ${delay} ms`);
    }
    await count(3);
    assert(!scene.manager.log.includes('lost'));
  });

  it('pass through ten deaths in a row, and restarts in between, ten thousand of them', async () => {
    const files = 10_000;
    for (let index = 0; index < files; index++) await acquire(`f${index}`);
    for (let time = 0; time < 10; time++) {
      await scene.kill();
      if (time % 3 === 0) {
        await executeAgain(scene.pid);
        await scene.manager.next('ready');
      }
      for (let index = time; index < files; index += 997) {
        assert(await isRefused(`f${index}`));
        await release(`f${index}`);
        await acquire(`f${index}`);
      }
    }
    await count(files);
    assert(!scene.manager.log.includes('lost'));
    for (let index = 0; index < files; index++) await release(`f${index}`);
    await count(0);
  });

  it('are not many for the manager', async () => {
    await scene.manager.tell('limit 6');
    for (let index = 0; index < 300; index++) await acquire(`f${index}`);
    await scene.kill();
    for (const name of ['f0', 'f299']) assert(await isRefused(name));
    assert.equal((await scene.manager.stored()).length, 6);
  });

  it('are nothing to the daemon under words that are no names, or names that are not on record', async () => {
    await acquire('a');
    writeFileSync(scene.at('stray'), '');
    await scene.manager.tell(`pass ${scene.at('stray')} 0`);
    await scene.manager.tell(`pass ${scene.at('stray')} 4294967295 77 ${storedName(StoredKind.LOCK_CLIENT, 3)}`);
    await scene.manager.tell(`pass ${scene.at('stray')} ${storedName(StoredKind.FILE, 4_000_000)}`);
    await scene.kill();
    assert(await isRefused('a'));
    await count(1);
    await release('a');
    await count(0);
  });

  it('under the name of another file free nothing and grant nothing', async () => {
    await acquire('a');
    const [name = 0] = await scene.storedFiles();
    writeFileSync(scene.at('stray'), '');
    await scene.manager.tell(`pass ${scene.at('stray')} ${name}`);
    await scene.kill();
    assert(await isRefused('a'));
    // The later of two counts. It is not the file on record.
    assert.match(scene.manager.log, /is not the file of resource '.*\/a', which stays held without it/);
    assert(!(await isRefused('stray', 0)));
  });

  it('are sent to the manager again when that has lost their queue', async () => {
    await acquire('a');
    const queue = (await scene.manager.stored()).find((name) => name.startsWith('Q')) ?? '';
    await scene.manager.tell(`close ${queue}`);
    await eventually('it is there again', async () => (await scene.manager.stored()).includes(queue), 20_000);
    await scene.kill();
    assert(await isRefused('a'));
  });

  it('do not keep a file system from being unmounted, nor its space', async function () {
    skipIf(this, process.getuid?.() === 0 ? undefined : 'root is needed to mount a file system');
    const mounted = scene.at('mounted');
    mkdirSync(mounted);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', mounted]);
    try {
      // Of other locks before it.
      for (const name of ['a', 'b', 'c']) await acquire(name);
      const image = 'mounted/image';
      writeFileSync(scene.at(image), Buffer.alloc(1 << 20));
      const free = statfsSync(mounted).bfree;
      await acquire(image, 0);
      await acquire('d');
      rmSync(scene.at(image));
      assert.equal(statfsSync(mounted).bfree, free);
      await release(image);
      await eventually('its space is free', () => statfsSync(mounted).bfree > free);
      execFileSync('umount', [mounted]);
    } finally {
      execFileSync('sh', ['-c', 'umount -l "$0" 2>/dev/null; :', mounted]);
    }
    for (const name of ['a', 'b', 'c', 'd']) assert(await isRefused(name));
  });
});
