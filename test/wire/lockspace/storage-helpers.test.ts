/** What storage helpers answer late, to nobody, or not at all: no lock is kept for nobody, no call waits for ever. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import type { HangingStorage } from '../../../src/lab/hanging-storage.ts';
import { Killer } from '../../../src/lab/killer.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { C_PROGRAM, displace, type LockDaemon, programOf, reexecute } from '../../../src/lab/start.ts';
import { autocreate, lock, type Peer, type WireError } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';
import { NOBODY, StorageScene, within } from './storage-scene.ts';

describe('storage helpers', function () {
  this.timeout(60_000);
  let scene: StorageScene;
  let daemon: LockDaemon;
  let storage: HangingStorage;
  let mount: string;
  let guest: Peer;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
  });

  async function begin(from: 'ours' | 'displaced' | '9.0.0' = 'ours'): Promise<void> {
    scene = await StorageScene.open({ from, hasOwnLocks: true });
    ({ daemon, storage, mount } = scene);
    guest = await connect('guest');
  }

  afterEach(async () => {
    await scene.close();
  });

  const at = (name: string): string => `${mount}/${name}`;
  const connect = async (name: string, pid?: number): Promise<Peer> => scene.connect(name, pid);
  const assertServed = async (): Promise<void> => scene.assertServed();

  /** Asks, and waits until storage is asked for it, which hangs. */
  async function hanging(
    call: Parameters<Peer['ask']>[0],
    request: 'open' | 'unlink',
  ): Promise<{ answer: Promise<WireError | undefined> }> {
    const before = storage.requests.length;
    await storage.hang(request);
    const answer = guest.ask(call);
    await storage.asked(request, before);
    return { answer };
  }

  /** Kills the helper, which ends when storage lets it go. */
  async function killHelper(): Promise<void> {
    const [pid] = storageHelpers(mount);
    assert.ok(pid !== undefined);
    process.kill(pid, 'SIGKILL');
    await storage.letGo();
    await eventually('its end is noticed', () => daemon.log.includes('has ended'));
  }

  // The kernel copies descriptors to a child in blocks of 64.
  for (const [where, connections] of [
    ['among the first 64 descriptors', 0],
    ['above them', 70],
  ] as const) {
    it(`keep nobody waiting who are started beside a POSIX lock on storage that hangs, ${where}`, async function () {
      skipIf(this, missingDaemon('9.0.0'));
      await begin('9.0.0');
      for (let i = 0; i < connections; i++) await connect('one of many', NOBODY + 3);
      await guest.must(lock.acquire('', at('disk')));
      displace(daemon.lab, programOf('ours'));
      await reexecute(daemon);
      const before = storage.requests.length;
      await storage.hang('flush', 'lookup', 'getattr');
      const rival = await connect('rival', NOBODY + 2);
      const answer = rival.ask(lock.acquire('', at('missing')));
      await assertServed();
      // The helper is there, and has its socket.
      if (connections > 0) await storage.asked('lookup', before);
      await storage.letGo();
      assert.notEqual(await within(answer), undefined);
    });
  }

  it('get a request again that found no room in their socket', async () => {
    await begin();
    await guest.must(lock.createResource('', at('made')));
    const killer = await Killer.at(daemon.pid, { sendto: 'error=ENOBUFS:when=1' });
    const answer = guest.ask(lock.acquire('', at('disk')));
    await killer.struck();
    await killer.letGo();
    assert.equal(await within(answer), undefined);
  });

  it('that die are succeeded: what the next one has locked is granted', async () => {
    await begin();
    await guest.must(lock.createResource('', at('made')));
    const { answer } = await hanging(lock.acquire('', at('disk')), 'open');
    await killHelper();
    assert.equal(await within(answer), undefined);
    await guest.must(lock.release('', at('disk')));
    const rival = await connect('rival', NOBODY + 2);
    await rival.must(lock.acquire('', at('disk')));
  });

  it('give back what they have locked for a call that has found another way to its file', async () => {
    await begin();
    const way = `${daemon.lab.directory}/way`;
    mkdirSync(way);
    assert.equal((await daemon.lab.run('/bin/mount', ['--bind', mount, way])).code, 0);
    await guest.must(lock.createResource('', at('made')));
    const { answer } = await hanging(lock.acquire('', `${way}/disk`), 'open');
    assert.equal((await daemon.lab.run('/bin/umount', ['--lazy', way])).code, 0);
    await assertServed();
    await storage.letGo();
    assert.notEqual(await within(answer), undefined);
    const rival = await connect('rival', NOBODY + 2);
    await rival.must(lock.acquire('', at('disk')));
  });

  it('that die before the next program knew their files end the releases that they were asked for', async () => {
    await begin();
    await guest.must(lock.acquire('', at('lease'), autocreate));
    const { answer } = await hanging(lock.release('', at('lease')), 'unlink');
    await reexecute(daemon);
    await killHelper();
    const rival = await connect('rival', NOBODY + 2);
    await within(rival.must(lock.acquire('', at('lease'), autocreate)));
    assert.equal(await within(answer), undefined);
  });

  it('hand nothing to a C daemon while their storage does not answer, though no call waits for it', async function () {
    skipIf(this, missingDaemon('9.0.0'));
    await begin('displaced');
    await guest.must(lock.acquire('', at('disk')));
    daemon.lab.install(C_PROGRAM);
    await storage.hang('setlk', 'getattr', 'lookup', 'open', 'flush');
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('it is refused', () => daemon.log.includes('Unable to re-execute, service goes on'));
    assert.match(daemon.log, /service goes on: the file system at \S+ does not answer/);
    await assertServed();
  });
});
