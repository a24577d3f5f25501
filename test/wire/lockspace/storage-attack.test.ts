/** Helpers that are killed or stopped at any moment, mounts that change under them, and very many calls: no lock is given away, nobody else waits. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { HangingStorage } from '../../../src/lab/hanging-storage.ts';
import { Killer } from '../../../src/lab/killer.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse, missingStrace } from '../../../src/lab/requirements.ts';
import { type LockDaemon, reexecute } from '../../../src/lab/start.ts';
import { autocreate, type Call, lock, type Peer, type WireError } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';
import { BUSY, NOBODY, StorageScene, within as answeredWithin } from './storage-scene.ts';

/** As the daemon's. */
const MAX_CALLS = 1000;

describe('an attack on storage helpers', function () {
  this.timeout(120_000);
  let scene: StorageScene;
  let daemon: LockDaemon;
  let storage: HangingStorage;
  let mount: string;
  let guest: Peer;
  let rival: Peer;

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'), missingFuse(), missingStrace());
    scene = await StorageScene.open({ hasOwnLocks: true });
    ({ daemon, storage, mount } = scene);
    guest = await connect('guest');
    rival = await connect('rival', NOBODY + 2);
  });

  afterEach(async () => {
    await scene.close();
  });

  const at = (name: string): string => `${mount}/${name}`;
  const helper = (): number => storageHelpers(mount)[0] ?? 0;

  const connect = async (name: string, pid?: number): Promise<Peer> => scene.connect(name, pid);
  const assertServed = async (): Promise<void> => scene.assertServed();
  const within = async <T>(answer: Promise<T>): Promise<T> => answeredWithin(answer, 10_000);

  const isBusy = async (name: string): Promise<boolean> => {
    const code = (await within(rival.ask(lock.acquire('', at(name), autocreate))))?.code;
    if (code === undefined) await rival.must(lock.release('', at(name)));
    return code === BUSY;
  };

  it('by SIGKILL at each of its system calls gives nothing away', async () => {
    await guest.must(lock.acquire('', at('kept'), autocreate));
    const calls: readonly (readonly [string, () => Call, readonly string[]])[] = [
      ['acquire', () => lock.acquire('', at('lease'), autocreate), ['recvfrom', 'openat', 'fcntl', 'statx', 'sendmsg']],
      ['release', () => lock.release('', at('lease')), ['fcntl', 'statx', 'unlink', 'close', 'sendmsg']],
    ];
    let isHeld = false;
    for (const [name, call, systemCalls] of calls) {
      for (const systemCall of systemCalls) {
        if (name === 'release' && !isHeld) await guest.must(lock.acquire('', at('lease'), autocreate));
        const killer = await Killer.at(helper(), { [systemCall]: 'signal=KILL:when=1' });
        const error: WireError | undefined = await within(guest.ask(call()));
        await eventually(`${name}: it is killed at ${systemCall}`, () => killer.hasKilled);
        await killer.letGo();
        isHeld = name === 'acquire' ? error === undefined : error !== undefined;
        await assertServed();
        assert.ok(await isBusy('kept'), `${name}: ${systemCall}`);
        assert.equal(await isBusy('lease'), isHeld, `${name}: ${systemCall}`);
        await eventually('what was held is held again', () => lossesMended());
        if (name === 'acquire' && isHeld) {
          await guest.must(lock.release('', at('lease')));
          isHeld = false;
        }
      }
    }
    await guest.must(lock.release('', at('kept')));
    assert.ok(!(await isBusy('kept')));
  });

  /** Each lock that was lost was taken again, or its release was done. */
  function lossesMended(): boolean {
    const count = (pattern: RegExp): number => [...daemon.log.matchAll(pattern)].length;
    return count(/kept' is lost/g) === count(/kept' was taken again/g);
  }

  it('by SIGSTOP makes its own callers wait, through a storm of restarts', async () => {
    await guest.must(lock.acquire('', at('kept'), autocreate));
    const stopped = helper();
    process.kill(stopped, 'SIGSTOP');
    const released = guest.ask(lock.release('', at('kept')));
    const asked = rival.ask(lock.acquire('', at('kept'), autocreate));
    for (let round = 0; round < 5; round++) {
      await assertServed();
      await reexecute(daemon);
    }
    assert.deepEqual(storageHelpers(mount), [stopped]);
    process.kill(stopped, 'SIGCONT');
    assert.deepEqual(await within(Promise.all([released, asked])), [undefined, undefined]);
    assert.doesNotMatch(daemon.log, / lost/);
  });

  it('by a lazy unmount, and by another storage at its place, unlinks and gives away nothing', async () => {
    await guest.must(lock.acquire('', at('lease'), autocreate));
    const first = storage;
    assert.equal((await daemon.lab.run('/bin/umount', ['--lazy', mount])).code, 0);
    await assertServed();
    assert.notEqual(await within(rival.ask(lock.acquire('', at('lease')))), undefined);
    rmSync(daemon.lab.outside(`${mount}.control`));
    scene.storage = await HangingStorage.mountIn(daemon.lab, { hasOwnLocks: true });
    const [third, fourth] = [await connect('third', NOBODY + 3), await connect('fourth', NOBODY + 4)];
    const asked = await within(third.ask(lock.acquire('', at('lease'), autocreate)));
    assert.equal(asked?.code, BUSY, 'the name is held');
    await third.must(lock.createResource('', at('other')));
    await guest.must(lock.release('', at('lease')));
    await third.must(lock.acquire('', at('lease'), autocreate));
    assert.equal((await fourth.ask(lock.acquire('', at('lease'), autocreate)))?.code, BUSY);
    await first.end();
  });

  it('by one storage under two paths grants a file once', async () => {
    const way = `${daemon.lab.directory}/way`;
    mkdirSync(way);
    assert.equal((await daemon.lab.run('/bin/mount', ['--bind', mount, way])).code, 0);
    await guest.must(lock.acquire('', at('disk')));
    assert.equal((await within(rival.ask(lock.acquire('', `${way}/disk`))))?.code, BUSY);
    await guest.must(lock.release('', at('disk')));
    await rival.must(lock.acquire('', `${way}/disk`));
    assert.equal((await within(guest.ask(lock.acquire('', at('disk')))))?.code, BUSY);
  });

  it('by very many calls that hang refuses one more at once, and answers all in the end', async () => {
    await storage.hang('lookup');
    const peers = await Promise.all(Array.from({ length: MAX_CALLS }, async (_, i) => connect('one', NOBODY + 10 + i)));
    const answers = peers.map(async (peer, i) => peer.ask(lock.acquire('', at(`lease ${i}`), autocreate)));
    await storage.asked('lookup');
    let error: WireError | undefined;
    await eventually('one more is refused', async () => {
      const more = await connect('more', NOBODY + 5);
      const asked = more.ask(lock.acquire('', at('one more'), autocreate));
      const answer = await Promise.race([asked, new Promise<'none'>((resolve) => setTimeout(resolve, 500, 'none'))]);
      more.close();
      await asked.catch(() => undefined);
      if (answer !== 'none') error = answer;
      return answer !== 'none';
    });
    assert.match(error?.message ?? '', /calls wait for the file system at /);
    await assertServed();
    await storage.letGo();
    assert.ok((await within(Promise.all(answers))).every((answer) => answer === undefined));
    for (const peer of peers) peer.close();
  });
});
