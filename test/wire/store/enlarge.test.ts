import assert from 'node:assert/strict';
import { closeSync, openSync, readSync } from 'node:fs';
import { recordFile } from '../../../src/lab/manager.ts';
import { eventually } from '../../../src/lab/process.ts';
import { autocreate, encode, lock, type Peer } from '../../../src/lab/wire.ts';
import { MIN_HALF } from '../../../src/store/record.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

/** Where the record tells how far it is filled. */
const END_OFFSET = 16 * 4;

describe('a record that is full when the daemon dies', function () {
  this.timeout(60_000);
  let scene: StoreScene;

  beforeEach(async () => {
    scene = await StoreScene.begin();
  });
  afterEach(async () => {
    await scene.end();
  });

  /** Bytes that are left. */
  function room(): number {
    const fd = openSync(recordFile(scene.pid), 'r');
    const word = Buffer.alloc(4);
    readSync(fd, word, 0, 4, END_OFFSET);
    closeSync(fd);
    return MIN_HALF - (word.readUInt32LE() & 0x7fff_ffff);
  }

  /** Registers clients until there is room for nothing. Returns them. */
  async function fill(): Promise<Peer[]> {
    const peers: Peer[] = [];
    const register = async (length: number): Promise<void> => {
      peers.push(await scene.client({ ...OWNER, name: 'n'.repeat(length) }));
    };
    await register(1000);
    while (room() > 100_000) await register(60_000);
    // What is recorded late.
    await new Promise((resolve) => setTimeout(resolve, 600));
    while (room() > 61_000) await register(Math.min(30_000, room() - 61_000));
    const before = room();
    await register(1000);
    const overhead = before - room() - 1000;
    await register(room() - overhead - 80);
    assert(room() < 200, `${room()} bytes are left`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    return peers;
  }

  it('is followed by a larger one, which knows the connections of the next process', async () => {
    const peers = await fill();
    ({ pid: scene.pid } = await scene.manager.kill(scene.pid));
    const interrupted = peers[1];
    interrupted?.send(encode({ procedure: 1 }).subarray(0, 10));
    await new Promise((resolve) => setTimeout(resolve, 50));
    await scene.manager.kill(scene.pid);
    for (const [index, peer] of peers.entries()) {
      if (peer === interrupted) assert.equal((await peer.drain()).length, 0);
      else assert.match((await peer.ask(lock.release('', '/nothing')))?.message ?? '', /not locked/, String(index));
    }
  });

  // The first of these calls is made for the client with a call under way; the record has been rewritten by then.
  for (const count of [1, 2]) {
    it(`leaves all to a third process when the second dies at shutdown ${count} of taking over`, async () => {
      const owner = await scene.owner();
      await owner.call(lock.acquire('', scene.at('mine'), autocreate));
      const half = await scene.client(RIVAL);
      await fill();
      const part = encode({ procedure: 1 }).subarray(0, 10);
      await owner.send(part);
      half.send(part);
      await new Promise((resolve) => setTimeout(resolve, 100));
      scene.traceNext('--trace=shutdown', `--inject=shutdown:signal=KILL:when=${count}`);
      process.kill(scene.pid, 'SIGKILL');
      for (let deaths = 0; deaths < 2; deaths++) await scene.manager.next('ended');
      await scene.served();
      // Nobody hangs.
      assert.equal((await half.drain()).length, 0);
      const rival = await scene.client(RIVAL);
      assert(await scene.isRefused(rival, 'mine'));
      assert(owner.isAlive);
      owner.kill();
      await eventually('the lock is free', async () => !(await scene.isRefused(rival, 'mine')));
    });
  }
});

describe('a record that is enlarged while clients fill the store', function () {
  this.timeout(60_000);
  let scene: StoreScene;

  afterEach(async () => {
    await scene.end();
  });

  for (const [limit, promised, what] of [
    [8, 8, 'has a place in it'],
    [6, 4096, 'takes the place of one of them, where the limit turns out to be lower'],
  ] as const) {
    it(`${what}, and leaves all to the next process`, async () => {
      scene = await StoreScene.begin({ env: { FDSTORE: String(promised) }, limit });
      const owner = await scene.client(OWNER);
      await owner.must(lock.acquire('', scene.at('mine'), autocreate));
      const records = async (): Promise<readonly string[]> =>
        (await scene.manager.stored()).filter((name) => name.startsWith('R'));
      const [first] = await records();
      const clients: Peer[] = [];
      for (let count = 0; count < 6; count++) clients.push(await scene.client());
      if (limit !== promised)
        await eventually('the limit is known', () => scene.manager.log.includes(`with a limit of ${limit}`));
      for (const letter of ['n', 'm']) {
        for (const client of clients) await client.must(lock.register({ ...RIVAL, name: letter.repeat(60_000) }));
      }
      const left = await records();
      assert.equal(left.length, 1);
      assert.notEqual(left[0], first);
      await scene.kill();
      assert(await scene.isRefused(await scene.client(RIVAL), 'mine'));
    });
  }
});
