/** A death that leaves more than the next process has descriptors for, or the service manager places. */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Killer } from '../../../src/lab/killer.ts';
import { eventually } from '../../../src/lab/process.ts';
import { autocreate, encode, lock, type Peer } from '../../../src/lab/wire.ts';
import { EXIT } from '../../../src/libvirt/exit.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

describe('a death that leaves much', function () {
  this.timeout(60_000);
  let scene: StoreScene;
  const opened: Killer[] = [];

  afterEach(async () => {
    for (const killer of opened.splice(0)) await killer.letGo();
    await scene.end();
  });

  const FILES = 200;
  const acquireAll = async (peer: Peer): Promise<void> => {
    for (let index = 0; index < FILES; index++) await peer.must(lock.acquire('', scene.at(`f${index}`), autocreate));
  };
  /** Kills the daemon, and waits until the first one serves that does not end by itself. */
  async function killAndFail(): Promise<void> {
    await scene.rest();
    process.kill(scene.pid, 'SIGKILL');
    await scene.manager.next('ended');
    assert.equal((await scene.manager.next('ended')).status, EXIT.initialize << 8);
    await scene.served();
  }
  async function assertHeld(peer: Peer): Promise<void> {
    assert.equal((await scene.storedFiles()).length, FILES);
    const rival = await scene.client(RIVAL);
    for (let index = 0; index < FILES; index++) {
      assert(await scene.isRefused(rival, `f${index}`));
      assert.equal(scene.kindOf(`f${index}`), 'OFDLCK');
      await peer.must(lock.release('', scene.at(`f${index}`)));
    }
    assert(!scene.manager.log.includes('stays held without it'));
  }

  it('costs no lock when the next process has too few descriptors for the files: all stay in the store', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await acquireAll(peer);
    scene.startWith('ulimit -n 150');
    await killAndFail();
    assert.match(
      scene.manager.log,
      /With at most 150 descriptors \d+ of 200 locked files cannot be opened: their locks stay/,
    );
    await assertHeld(peer);
  });

  it('costs no lock when the next process has no more descriptors than the files need', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await acquireAll(peer);
    scene.startWith(`ulimit -n ${readdirSync(`/proc/${scene.pid}/fd`).length + 4}`);
    await killAndFail();
    assert.match(scene.manager.log, /With at most \d+ descriptors none is left for the start: their locks stay/);
    await assertHeld(peer);
  });

  it('costs no lock when there is no memory for the record at present', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await acquireAll(peer);
    scene.traceNext("--trace-path='/memfd:virtlockd record'", '--trace=mmap', '--inject=mmap:error=ENOMEM');
    await killAndFail();
    assert.match(scene.manager.log, /Cannot read the state record: Cannot allocate memory/);
    await assertHeld(peer);
  });

  it('leaves descriptors to the next process, though clients have asked for all', async () => {
    scene = await StoreScene.begin({}, 'ulimit -n 300');
    const peer = await scene.client(OWNER);
    let count = 0;
    while ((await peer.ask(lock.acquire('', scene.at(`f${count}`), autocreate))) === undefined) count++;
    const kept = Array.from({ length: count }, (_, index) => `f${index}`).filter(
      (name) => scene.kindOf(name) === 'OFDLCK',
    );
    assert(kept.length > FILES && kept.length < count, `${kept.length} of ${count}`);
    await scene.manager.kill(scene.pid);
    const rival = await scene.client(RIVAL);
    for (const name of kept) assert(await scene.isRefused(rival, name), name);
  });

  it('costs an owner nothing whose process is followed by a descriptor that the store has no room for, twice', async () => {
    // The record, the queue of files, two listening sockets, and the connection of another client.
    scene = await StoreScene.begin({ env: { FDSTORE: '5' }, limit: 5 });
    await scene.client(RIVAL);
    const owner = await scene.owner();
    await owner.call(lock.acquire('', scene.at('mine'), autocreate));
    for (let deaths = 0; deaths < 2; deaths++) {
      await scene.kill();
      assert.equal(await scene.stored('P'), 0);
    }
    const rival = await scene.client(RIVAL);
    assert(await scene.isRefused(rival, 'mine'));
    owner.kill();
    await owner.ended();
    await eventually('the lock is free', async () => !(await scene.isRefused(rival, 'mine')));
  });

  it('goes on to end an owner whose descriptor the store has no room for', async () => {
    scene = await StoreScene.begin({ env: { FDSTORE: '5' }, limit: 5 });
    await scene.client(RIVAL);
    const owner = await scene.owner(true);
    await owner.call(lock.acquire('', scene.at('mine'), autocreate));
    await owner.close();
    await eventually('the owner is found', () => {
      const directory = `/proc/${scene.pid}/fd`;
      return readdirSync(directory).some((fd) => readlinkSync(join(directory, fd)).includes('pidfd'));
    });
    await scene.kill();
    assert.equal(await owner.ended(), 'SIGKILL');
  });

  it('costs nothing of an owner whose process could not be found before the next one', async () => {
    scene = await StoreScene.begin();
    const owner = await scene.owner();
    await owner.call(lock.acquire('', scene.at('mine'), autocreate));
    await scene.rest();
    // The manager loses its connection.
    for (const name of await scene.manager.stored())
      if (name.startsWith('C')) await scene.manager.tell(`close ${name}`);
    scene.traceNext('--trace=pidfd_open', '--inject=pidfd_open:error=EMFILE');
    ({ pid: scene.pid } = await scene.manager.kill(scene.pid));
    await scene.kill();
    const rival = await scene.client(RIVAL);
    assert(await scene.isRefused(rival, 'mine'));
    assert(owner.isAlive);
    owner.kill();
    await owner.ended();
    await eventually('the lock is free', async () => !(await scene.isRefused(rival, 'mine')));
  });

  it('gives no name again that a descriptor has which is stored, but not recorded', async () => {
    scene = await StoreScene.begin();
    const owner = await scene.owner();
    await owner.call(lock.acquire('', scene.at('mine'), autocreate));
    const other = await scene.owner(true);
    await other.call(lock.acquire('', scene.at('other'), autocreate));
    // The owner's call is interrupted. The end of the other one has begun: its pidfd is stored, and the daemon gets no further.
    await owner.send(encode({ procedure: 1 }).subarray(0, 10));
    await scene.rest();
    opened.push(await Killer.at(scene.pid, { sendmsg: 'delay_exit=5000000:when=1' }));
    await other.close();
    const pidfds = async (count: number): Promise<readonly string[]> =>
      eventually(`${count} are stored`, async () => {
        const names = (await scene.manager.stored()).filter((name) => name.startsWith('P'));
        return names.length === count && names;
      });
    const [stray = ''] = await pidfds(1);
    await scene.manager.kill(scene.pid);
    // One is for the owner, which has no connection any more.
    assert(!(await pidfds(2)).includes(stray));
  });
});
