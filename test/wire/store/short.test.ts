import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { eventually } from '../../../src/lab/process.ts';
import { autocreate, encode, lock, type Peer } from '../../../src/lab/wire.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

describe('a store that has not got all', function () {
  this.timeout(30_000);
  let scene: StoreScene;

  /** @param promised how many the daemon believes that there may be */
  const begin = async (limit: number, promised = 4096): Promise<void> => {
    scene = await StoreScene.begin({ limit, env: { FDSTORE: String(promised) } });
  };
  afterEach(async () => {
    await scene.end();
  });
  const clients = async (count: number): Promise<Peer[]> => {
    const made: Peer[] = [];
    for (let index = 0; index < count; index++) made.push(await scene.client(OWNER));
    return made;
  };
  /** The connection has outlived the daemon. */
  const assertServed = async (peer: Peer): Promise<void> => {
    assert.match((await peer.ask(lock.release('', '/nothing')))?.message ?? '', /not locked/);
  };

  it('gets the rest when it has room again, though nothing has come in between', async () => {
    await begin(6);
    const made = await clients(6);
    await eventually('the log says it', () =>
      scene.manager.log.includes('the service manager keeps 6, with a limit of 6'),
    );
    // It has been sent again, in vain.
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await scene.manager.tell('limit 100');
    await eventually('all is stored', async () => (await scene.manager.stored()).length === 10, 10_000);
    await scene.manager.kill(scene.pid);
    for (const peer of made) await assertServed(peer);
  });

  it('gets the rest when something has gone from it', async () => {
    await begin(6);
    const made = await clients(6);
    await eventually('the log says it', () =>
      scene.manager.log.includes('the service manager keeps 6, with a limit of 6'),
    );
    await new Promise((resolve) => setTimeout(resolve, 2000));
    for (const peer of made.slice(0, 2)) peer.close();
    await eventually('it is full again', async () => (await scene.manager.stored()).length === 6);
  });

  it('leaves an acquire that may have been answered to its owner, whose connection had no room in it', async () => {
    // The record, the queue of files, and two listening sockets.
    await begin(4, 4);
    const owner = scene.sleeper();
    const peer = await scene.client({ pid: owner.pid });
    await scene.killer('sendto', 1);
    const acquire = lock.acquire('', scene.at('lease'), autocreate);
    await assert.rejects(peer.must(acquire), /closed instead of a reply/);
    await scene.served();
    const again = await scene.client({ pid: owner.pid });
    await again.must(acquire);
    assert(await scene.isRefused(await scene.client(RIVAL), 'lease'));
    await again.must(lock.release('', scene.at('lease')));
  });

  it('has not got the connection of an owner, whose end is seen all the same', async () => {
    await begin(4);
    const owner = await scene.owner();
    await owner.call(lock.acquire('', scene.at('mine'), autocreate));
    await scene.kill();
    const rival = await scene.client(RIVAL);
    assert(await scene.isRefused(rival, 'mine'));
    assert(owner.isAlive);
    owner.kill();
    await eventually('the lock is free', async () => !(await scene.isRefused(rival, 'mine')));
  });

  it('gets the rest before the daemon leaves all to the next', async () => {
    await begin(4096);
    await scene.manager.tell('listen no');
    const made = await clients(600);
    process.kill(scene.pid, 'SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, 500));
    await scene.manager.tell('listen yes');
    await scene.manager.next('ready');
    for (const peer of made) await assertServed(peer);
    assert(!scene.manager.log.includes('had been lost'));
  });

  it('is told that the daemon serves, however much is taken out of it before', async () => {
    await begin(4096);
    const made = await clients(40);
    await eventually('all is stored', async () => (await scene.manager.stored()).length === 44);
    // Calls under way, so that all are closed.
    for (const peer of made) peer.send(encode({ procedure: 1 }).subarray(0, 10));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await scene.manager.tell('listen no');
    process.kill(scene.pid, 'SIGKILL');
    await scene.manager.next('started');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await scene.manager.tell('listen yes');
    await scene.manager.next('ready');
    await eventually('all is taken out', async () => (await scene.manager.stored()).length === 4);
  });

  /** Closes so many stored connections while the manager does not listen, and asks for a restart. Returns one more client. */
  async function restartWithout(count: number): Promise<Peer> {
    await begin(4096);
    const peer = await scene.client(OWNER);
    const made = await clients(count);
    await eventually('all is stored', async () => (await scene.manager.stored()).length === count + 5);
    await scene.manager.tell('listen no');
    for (const one of made) one.close();
    process.kill(scene.pid, 'SIGUSR1');
    return peer;
  }

  async function acquireLast(peer: Peer): Promise<void> {
    writeFileSync(scene.at('last'), '');
    await peer.must(lock.acquire('', scene.at('last')));
  }

  it('keeps the daemon from a restart, while the manager takes nothing: the next program could not send the rest', async () => {
    const peer = await restartWithout(600);
    await eventually(
      'it is refused',
      () => scene.manager.log.includes('the service manager takes no descriptors at present'),
      20_000,
    );
    await acquireLast(peer);
    await scene.manager.tell('listen yes');
    await eventually('all else is taken out', async () => (await scene.manager.stored()).length === 5);
  });

  it('is left without the connections that are closed, by a restart while the manager does not listen', async () => {
    const peer = await restartWithout(30);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await scene.manager.tell('listen yes');
    await acquireLast(peer);
    await eventually('all else is taken out', async () => (await scene.manager.stored()).length === 5);
  });
});
