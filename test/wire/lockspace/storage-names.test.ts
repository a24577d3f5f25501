/** A file that a storage helper keeps has several names, or is lost in the moment of its release: no lock is granted twice, or stays. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { HangingStorage } from '../../../src/lab/hanging-storage.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { eventually } from '../../../src/lab/process.ts';
import { type LockDaemon, reexecute } from '../../../src/lab/start.ts';
import { lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';
import { BUSY, NOBODY, StorageScene } from './storage-scene.ts';

/** Of a loop device, which need not have a file behind it. */
const LOOP_DEVICE = ['b', '7', '0'];

describe('a file that a storage helper keeps', function () {
  this.timeout(60_000);
  let scene: StorageScene;
  let daemon: LockDaemon;
  let storage: HangingStorage;
  let mount: string;
  let guest: Peer;
  let rival: Peer;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
  });

  beforeEach(async () => {
    scene = await StorageScene.open({ hasOwnLocks: true });
    ({ daemon, storage, mount } = scene);
    [guest, rival] = [await scene.connect('guest'), await scene.connect('rival', NOBODY + 2)];
  });

  afterEach(async () => {
    await scene.close();
  });

  /** All calls before this one have reached the daemon. */
  async function served(): Promise<void> {
    const other = await scene.connect('other', NOBODY + 1);
    await other.ask(lock.release('', 'none'));
    other.close();
  }

  /** Two names of the file, on a file system that does not hang. */
  function twoNames(): [string, string] {
    const [one, two] = [join(daemon.lab.directory, 'one'), join(daemon.lab.directory, 'two')];
    for (const name of [one, two]) symlinkSync(`${mount}/disk`, daemon.lab.outside(name));
    return [one, two];
  }

  it('is held until both of its names are released', async () => {
    const [one, two] = twoNames();
    await guest.must(lock.acquire('', one, shared));
    await rival.must(lock.acquire('', two, shared));
    await guest.must(lock.release('', one));
    assert.equal((await guest.ask(lock.acquire('', one)))?.code, BUSY);
    await rival.must(lock.release('', two));
    await guest.must(lock.acquire('', one));
  });

  it('is asked for again when its helper ends and one of its names is released', async () => {
    const [one, two] = twoNames();
    await guest.must(lock.acquire('', one, shared));
    await rival.must(lock.acquire('', two, shared));
    await guest.must(lock.release('', one));
    for (const pid of storageHelpers(mount)) process.kill(pid, 'SIGKILL');
    await eventually('it is taken again', () => daemon.log.includes("two' was taken again"));
    assert.equal((await guest.ask(lock.acquire('', one)))?.code, BUSY);
    await rival.must(lock.release('', two));
    await guest.must(lock.acquire('', one));
  });

  for (const isShared of [true, false]) {
    it(`is not granted under its other name while it is released, ${isShared ? 'shared' : 'exclusive'}`, async () => {
      const [one, two] = twoNames();
      const flags = isShared ? shared : 0;
      await guest.must(lock.acquire('', one, flags));
      const before = storage.requests.length;
      await storage.hang('open');
      const acquired = rival.ask(lock.acquire('', two, flags));
      await storage.asked('open', before);
      const released = guest.ask(lock.release('', one));
      // In the helper the release waits behind the acquire.
      await served();
      await storage.letGo();
      assert.deepEqual(await Promise.all([acquired, released]), [undefined, undefined]);
      const third = await scene.connect('third', NOBODY + 3);
      assert.equal((await third.ask(lock.acquire('', `${mount}/disk`)))?.code, BUSY);
      await rival.must(lock.release('', two));
      await third.must(lock.acquire('', `${mount}/disk`));
    });
  }

  it('is left alone when its lock is taken again in the moment of its release', async () => {
    const disk = `${mount}/disk`;
    await guest.must(lock.acquire('', disk));
    const before = storage.requests.length;
    await storage.hang('lookup');
    for (const pid of storageHelpers(mount)) process.kill(pid, 'SIGKILL');
    await storage.asked('lookup', before);
    const [helper = 0] = storageHelpers(mount);
    process.kill(daemon.pid, 'SIGSTOP');
    const released = guest.ask(lock.release('', disk));
    // The answer and the call are there when the daemon goes on.
    await storage.letGo();
    await eventually('the helper has answered', () => isIdle(helper));
    process.kill(daemon.pid, 'SIGCONT');
    assert.equal(await released, undefined);
    await rival.must(lock.acquire('', disk));
  });

  it('may be a block device: after a restart no other node of it is granted either', async function () {
    const nodes = ['one', 'two'].map((name) => join(daemon.lab.directory, name));
    const [one = '', two = ''] = nodes;
    for (const node of nodes) await daemon.lab.run('/bin/mknod', [node, ...LOOP_DEVICE]);
    skipIf(this, cannotOpen(daemon.lab.outside(one)));
    await guest.must(lock.acquire('', one));
    // The second one reads what the first has read and written.
    for (let restart = 0; restart < 2; restart++) {
      await reexecute(daemon);
      assert.equal((await rival.ask(lock.acquire('', two)))?.code, BUSY);
    }
    await guest.must(lock.release('', one));
    await rival.must(lock.acquire('', two));
  });
});

/** Whether the process is in recvfrom(2), as a helper that has answered: by its number on x86-64 or on others. */
function isIdle(pid: number): boolean {
  return /^(?:45|207) /.test(readFileSync(`/proc/${pid}/syscall`, 'latin1'));
}

function cannotOpen(path: string): string | undefined {
  try {
    closeSync(openSync(path, 'r+'));
    return undefined;
  } catch (error) {
    return `no loop device: ${(error as Error).message}`;
  }
}
