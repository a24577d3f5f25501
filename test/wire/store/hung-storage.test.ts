/** The daemon dies while a storage does not answer: the helper keeps the locks there, and the next daemon finds it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { HangingStorage } from '../../../src/lab/hanging-storage.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';
import { StoreScene } from './scene.ts';

const NOBODY = 4_194_305;
const BUSY = 87;

describe('a daemon that is killed while a storage does not answer', function () {
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

  const at = (name: string): string => join(storage.mount, name);
  const connect = async (pid: number): Promise<Peer> => scene.client({ pid });

  it('leaves the locks there to the next one, which serves at once', async () => {
    const [guest, other] = [await connect(NOBODY), await connect(NOBODY + 1)];
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await storage.hang('open', 'unlink');
    const interrupted = other.ask(lock.acquire('', at('disk'))).catch(() => undefined);
    await storage.asked('open');
    for (let turn = 0; turn < 2; turn++) {
      await scene.kill();
      const rival = await connect(NOBODY + 2);
      await rival.must(lock.acquire('', scene.at('local'), autocreate));
      await rival.must(lock.release('', scene.at('local')));
      assert.equal((await rival.ask(lock.acquire('', at('lease'), autocreate)))?.code, BUSY);
      rival.close();
    }
    await interrupted;
    await storage.letGo();
    const rival = await connect(NOBODY + 2);
    await rival.must(lock.acquire('', at('disk')));
    assert.equal((await rival.ask(lock.acquire('', at('lease'), autocreate)))?.code, BUSY);
    await guest.must(lock.release('', at('lease')));
    await rival.must(lock.acquire('', at('lease'), autocreate));
    assert.doesNotMatch(scene.manager.log, / lost/);
  });

  it('has its locks held by the helper all the time, as the kernel says', async () => {
    // The kernel keeps its locks.
    const plain = await scene.mount('plain', {});
    const [guest, other] = [await connect(NOBODY), await connect(NOBODY + 1)];
    const at = (name: string): string => join(plain.mount, name);
    await guest.must(lock.acquire('', at('lease'), autocreate));
    // The runtime takes large ones for negative ones.
    const ino = BigInt.asUintN(64, statSync(at('lease'), { bigint: true }).ino);
    await plain.hang('open');
    const interrupted = other.ask(lock.acquire('', at('disk'))).catch(() => undefined);
    await plain.asked('open');
    // Not /proc/locks: a look at that misses rows when others change meanwhile.
    const directory = `/proc/${storageHelpers(plain.mount)[0] ?? 0}/fdinfo`;
    const infos = (): string[] => readdirSync(directory).map((fd) => readFileSync(join(directory, fd), 'latin1'));
    const looks: boolean[] = [];
    const look = setInterval(() => {
      looks.push(infos().some((text) => text.includes('OFDLCK') && text.includes(`:${ino} `)));
    }, 1);
    try {
      for (let turn = 0; turn < 3; turn++) await scene.kill();
    } finally {
      clearInterval(look);
    }
    await interrupted;
    assert.ok(looks.length > 3 && looks.every((isHeld) => isHeld));
  });

  it('has the next one finish a release that had begun', async () => {
    const [guest, rival] = [await connect(NOBODY), await connect(NOBODY + 2)];
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await storage.hang('unlink');
    const released = guest.ask(lock.release('', at('lease'))).catch(() => undefined);
    await storage.asked('unlink');
    await scene.kill();
    await released;
    const asked = rival.ask(lock.acquire('', at('lease'), autocreate));
    await storage.letGo();
    assert.equal(await asked, undefined);
  });

  it('leaves the number of a block device to the next one: no other node of it is granted', async function () {
    const [one, two] = [scene.at('one'), scene.at('two')];
    try {
      for (const node of [one, two]) execFileSync('mknod', [node, 'b', '7', '0']);
      closeSync(openSync(one, 'r+'));
    } catch (error) {
      skipIf(this, `no loop device: ${(error as Error).message}`);
    }
    const guest = await connect(NOBODY);
    await guest.must(lock.acquire('', one));
    await scene.kill();
    const rival = await connect(NOBODY + 2);
    assert.equal((await rival.ask(lock.acquire('', two)))?.code, BUSY);
  });
});
