/** Kills the daemon as it enters a system call, at each system call of an acquire and a release. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { eventually } from '../../../src/lab/process.ts';
import { autocreate, type Call, lock, type Peer } from '../../../src/lab/wire.ts';
import { RIVAL, type Sleeper, StoreScene } from './scene.ts';

/** The system calls of an acquire and a release, and how often each is made at most. */
const CALLS: Readonly<Record<string, number>> = {
  recvmsg: 3,
  openat: 1,
  statx: 4,
  fcntl: 2,
  sendmsg: 1,
  recvfrom: 1,
  unlink: 1,
  close: 1,
  sendto: 3,
};

describe('a daemon that is killed during a call', function () {
  this.timeout(300_000);
  let scene: StoreScene;
  let owner: Sleeper;
  let rival: Peer;

  beforeEach(async () => {
    scene = await StoreScene.begin();
    owner = scene.sleeper();
    rival = await scene.client(RIVAL);
  });
  afterEach(async () => {
    await scene.end();
  });

  /** A client that registers the owner, as libvirtd does. */
  const client = async (): Promise<Peer> => scene.client({ pid: owner.pid });

  /** Makes a call during which the daemon is killed. True when the daemon answered with success, false when the connection ended. */
  async function callUnder(peer: Peer, call: Call, syscall: string, count: number): Promise<boolean> {
    const killer = await scene.killer(syscall, count);
    let isAnswered: boolean;
    try {
      await peer.must(call);
      isAnswered = true;
    } catch (error) {
      assert.match((error as Error).message, /closed instead of a reply/);
      isAnswered = false;
    }
    await killer.letGo();
    if (killer.hasKilled) await scene.served();
    else assert(isAnswered);
    return isAnswered;
  }

  const isRefused = async (): Promise<boolean> => scene.isRefused(rival, 'lease');

  for (const [syscall, most] of Object.entries(CALLS)) {
    it(`at ${syscall} leaves a lock to its owner, and to no other client`, async () => {
      for (let count = 1; count <= most; count++) {
        let peer = await client();
        const acquire = lock.acquire('', scene.at('lease'), autocreate);
        if (!(await callUnder(peer, acquire, syscall, count))) {
          peer.close();
          peer = await client();
          await peer.must(acquire);
        }
        assert(await isRefused(), `acquired, ${syscall} ${count}`);
        const release = lock.release('', scene.at('lease'));
        if (!(await callUnder(peer, release, syscall, count))) {
          peer.close();
          peer = await client();
          // The first call may have released it, so the result does not matter.
          await peer.ask(release);
        }
        await rival.must(acquire);
        await rival.must(release);
        peer.close();
      }
      await eventually('no file is left', async () => (await scene.storedFiles()).length === 0);
      const names = await scene.manager.stored();
      assert(names.length <= 7, names.join());
    });
  }

  // libvirt suspends and resumes a guest so: one connection, a call for each disk, and none after one that fails.
  for (const [boundary, count] of [
    ['registers', 1],
    ['releases', 2],
  ] as const) {
    it(`while libvirt ${boundary} for a guest leaves it the locks on all of its disks`, async () => {
      const files = ['a', 'b', 'c'];
      const acquire = (name: string): Call => lock.acquire('', scene.at(name), autocreate);
      const release = (name: string): Call => lock.release('', scene.at(name));
      const first = await client();
      for (const each of files) await first.must(acquire(each));
      first.close();
      const suspending = await scene.client();
      const killer = await scene.killer('sendto', count);
      await assert.rejects(async () => {
        await suspending.must(lock.register({ pid: owner.pid }));
        for (const each of files) await suspending.must(release(each));
      }, /closed instead of a reply/);
      await killer.letGo();
      await scene.served();
      // The first disk may have been released.
      for (const each of files.slice(1)) assert(await scene.isRefused(rival, each), each);
      const resuming = await client();
      for (const each of files) await resuming.must(acquire(each));
      for (const each of files) await resuming.must(release(each));
      for (const each of files) await rival.must(acquire(each));
    });
  }

  it('in an acquire that may have been answered ends the lock with its owner', async () => {
    const peer = await client();
    // One that exists: no storage helper is asked before.
    writeFileSync(scene.at('lease'), '');
    assert(!(await callUnder(peer, lock.acquire('', scene.at('lease')), 'sendto', 1)));
    assert(await isRefused());
    owner.kill();
    await eventually('the lock is free', async () => !(await isRefused()));
  });
});
