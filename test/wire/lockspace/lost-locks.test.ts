/** A lock that the file server has dropped, as that of a host which was cut off, and may have given to another host. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { indirectName } from '../../../src/lab/guest.ts';
import { HangingStorage, type StorageOptions, unmount } from '../../../src/lab/hanging-storage.ts';
import { makePlaceDirectory, removePlaceDirectory } from '../../../src/lab/place.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { reexecute } from '../../../src/lab/start.ts';
import { autocreate, lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { LockType } from '../../../src/posix/posix.ts';
import { setLock } from '../../../src/posix/record-lock.ts';
import { connectClient, InquireClient } from '../../../src/programs/lockctl/inquire-client.ts';
import { Model } from '../../../src/programs/lockctl/serve/model.ts';
import { resolveTarget } from '../../../src/programs/lockctl/target.ts';
import { Host } from '../../support/host.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';
import { BUSY, NOBODY, within } from './storage-scene.ts';

const { EIO } = constants.errno;
const NAME = indirectName('/images/db.qcow2');
const EVERY_SECOND = 'lock_confirm_interval = 1\n';
/** But for check. */
const RARELY = 'lock_confirm_interval = 3600\n';
const NEVER = 'lock_confirm_interval = 0\n';

interface Check {
  readonly locks: number;
  readonly shared: number;
  readonly confirmed: number;
  readonly findings: readonly { readonly severity: string; readonly text: string }[];
}

describe('a lock that the file server has dropped', function () {
  this.timeout(60_000);
  let directory: string;
  let storage: HangingStorage;
  let mount: string;
  let hosts: Host[];

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
  });

  beforeEach(() => {
    directory = makePlaceDirectory(0o755);
    hosts = [];
  });

  afterEach(async () => {
    await storage.letGo();
    for (const host of hosts) await host.close();
    await storage.end();
    unmount(mount);
    removePlaceDirectory(directory);
  });

  async function mountIt(options: StorageOptions = { hasOwnLocks: true }): Promise<void> {
    storage = await HangingStorage.mountAt(join(directory, 'storage'), options);
    ({ mount } = storage);
  }

  async function host(name: string, configuration = EVERY_SECOND): Promise<Host> {
    const started = await Host.start(name, { share: [mount], configuration });
    hosts.push(started);
    return started;
  }

  /** A host whose guest holds the lock, which the server has been asked about once. */
  async function holder(configuration = EVERY_SECOND, options?: StorageOptions): Promise<{ one: Host; db: Peer }> {
    await mountIt(options);
    const one = await host('node7', configuration);
    const db = await one.connect('db', NOBODY, mount);
    await db.must(lock.acquire(mount, NAME, autocreate));
    return { one, db };
  }

  async function other(configuration?: string): Promise<{ two: Host; web: Peer }> {
    const two = await host('node8', configuration);
    return { two, web: await two.connect('web', NOBODY + 1, mount) };
  }

  const check = async (on: Host): Promise<Check> => JSON.parse(await on.lockctl('check', '--json')) as Check;
  /** Without those about owners, which no process is. */
  const texts = ({ findings }: Check): string =>
    findings
      .filter(({ text }) => !text.startsWith('its owner'))
      .map(({ severity, text }) => `${severity}: ${text}`)
      .join('\n');

  async function counter(on: Host, name: string): Promise<number | undefined> {
    const { counters } = (await on.status()) as { counters: Record<string, number> };
    return counters[name];
  }

  async function confirmed(on: Host): Promise<void> {
    await eventually('the lock is confirmed', async () => (await check(on)).confirmed === 1);
  }

  it('is found when another host has it, and said by the log, every command, the metrics and an event', async () => {
    const { one, db } = await holder();
    await confirmed(one);
    const watch = one.spawnLockctl('watch', '--no-clients');
    const watchJson = one.spawnLockctl('watch', '--no-clients', '--json');
    await eventually('both have subscribed', async () => (await one.status()).subscribers === 2);
    const { two, web } = await other();
    await storage.drop();
    await web.must(lock.acquire(mount, NAME, autocreate));
    await one.logs(
      /error : .*The lock of resource '.*', owners 4200000 \(db\), is lost.*: another process or host has it/,
    );
    assert.match(texts(await check(one)), /^error: another process or host has it, last confirmed 2/);
    const health = JSON.parse(await one.lockctl('health', '--json')) as {
      verdict: string;
      findings: { kind: string }[];
    };
    assert.equal(health.verdict, 'error');
    assert.ok(health.findings.some(({ kind }) => kind === 'lost-lock'));
    assert.match(await one.lockctl('status'), /warning: the lock of resource '.*', owners .* is lost/);
    const metrics = await one.lockctl('metrics');
    assert.match(metrics, /^virtlockd_lost_locks 1$/m);
    assert.match(metrics, /^virtlockd_locks_lost_total 1$/m);
    await eventually('watch prints it', () => /lost .*db \(pid 4200000\).*another/.test(watch.output));
    await eventually('watch --json does', () => watchJson.output.includes('"change":"lost"'));
    for (const running of [watch, watchJson]) await running.stop();
    const model = new Model();
    const daemon = new InquireClient(resolveTarget(one.daemon.adminSocket), connectClient);
    await model.read(daemon);
    daemon.close();
    assert.match(JSON.stringify(model.search('').health?.findings), /1 lock is lost on the file server/);
    // The other host is well, and its lock is not touched by the release of a lock that is not ours.
    assert.equal(texts(await check(two)), '');
    await db.must(lock.release(mount, NAME));
    assert.ok(existsSync(join(mount, NAME)));
    assert.equal((await check(two)).confirmed, 1);
    assert.equal(await counter(one, 'lostLocks'), 0);
    assert.equal((await db.ask(lock.acquire(mount, NAME, autocreate)))?.code, BUSY);
    await web.must(lock.release(mount, NAME));
    await db.must(lock.acquire(mount, NAME, autocreate));
  });

  it('stays found lost when the daemon executes itself', async () => {
    const { one } = await holder();
    await confirmed(one);
    const { web } = await other();
    await storage.drop();
    await web.must(lock.acquire(mount, NAME, autocreate));
    await one.logs(/is lost/);
    // No answer can tell the next program.
    await storage.hang('getlk');
    await reexecute(one.daemon);
    assert.equal(await counter(one, 'lostLocks'), 1);
    assert.match(texts(await check(one)), /^error: another process or host has it/m);
    await storage.letGo();
  });

  it('is taken again when nobody has it, and keeps others out from then on', async () => {
    const { one, db } = await holder();
    await confirmed(one);
    await storage.drop();
    await one.logs(/error : .*is lost.*: nobody else is known to have it/);
    await one.logs(/warning : .*is taken again: in between another host may have written/);
    assert.match(texts(await check(one)), /^warning: it was lost and is held again/);
    assert.equal(await counter(one, 'regainedLocks'), 1);
    const { web } = await other();
    assert.equal((await web.ask(lock.acquire(mount, NAME, autocreate)))?.code, BUSY);
    // Once more.
    await storage.drop();
    await eventually('it is found again', async () => (await counter(one, 'locksLost')) === 2);
    await db.must(lock.release(mount, NAME));
    await web.must(lock.acquire(mount, NAME, autocreate));
    assert.equal(texts(await check(one)), '');
  });

  it('is taken again when the host that had it lets go', async () => {
    await mountIt();
    const one = await host('node7', RARELY);
    const db = await one.connect('db', NOBODY, mount);
    // A file that stays at a release.
    const disk = join(mount, 'disk');
    await db.must(lock.acquire('', disk, 0));
    await confirmed(one);
    const { web } = await other(NEVER);
    await storage.drop();
    await web.must(lock.acquire('', disk, 0));
    for (let times = 0; times < 2; times++) {
      await check(one);
      assert.deepEqual([await counter(one, 'lostLocks'), await counter(one, 'locksLost')], [1, 1]);
    }
    await web.must(lock.release('', disk));
    await check(one);
    assert.deepEqual([await counter(one, 'lostLocks'), await counter(one, 'regainedLocks')], [0, 1]);
    assert.equal((await web.ask(lock.acquire('', disk, 0)))?.code, BUSY);
  });

  it('is found of a shared lock', async () => {
    await mountIt();
    const one = await host('node7');
    const db = await one.connect('db', NOBODY, mount);
    await db.must(lock.acquire('', join(mount, 'disk'), shared));
    await confirmed(one);
    const { two, web } = await other();
    await web.must(lock.acquire('', join(mount, 'disk'), shared));
    assert.equal((await check(two)).confirmed, 1);
    assert.equal((await check(one)).confirmed, 1);
    await web.must(lock.release('', join(mount, 'disk')));
    await storage.drop();
    await web.must(lock.acquire('', join(mount, 'disk'), 0));
    await one.logs(/another process or host has it/);
  });

  it('is found of a lock that its helper knows only as shared with another host', async () => {
    await mountIt();
    const { web } = await other(NEVER);
    await web.must(lock.acquire(mount, NAME, autocreate | shared));
    const one = await host('node7', RARELY);
    const db = await one.connect('db', NOBODY, mount);
    await db.must(lock.acquire(mount, NAME, autocreate | shared));
    assert.equal((await check(one)).confirmed, 1);
    await storage.drop();
    // Nobody is seen to have the file's lock: it goes.
    await web.must(lock.release(mount, NAME));
    assert.ok(!existsSync(join(mount, NAME)));
    assert.match(texts(await check(one)), /^error: it is lost, and nobody else is known to have it/m);
  });

  /** A guest shares the disk with another host, which lets go of it once the helper has asked for locks so many times. */
  async function sharer(after: number, options: StorageOptions): Promise<Host> {
    const also = join(directory, 'other');
    await mountIt({ hasOwnLocks: true, also, ...options });
    const fd = openSync(join(also, 'disk'), 'r+');
    try {
      assert.equal(setLock('ofd', fd, LockType.READ), 0);
      const one = await host('node7', NEVER);
      const db = await one.connect('db', NOBODY, mount);
      await storage.leave(after);
      await db.must(lock.acquire('', join(mount, 'disk'), shared));
      return one;
    } finally {
      closeSync(fd);
      unmount(also);
    }
  }

  // What the helper asks first is how it learns what the file system shows.
  for (const after of [1, 2, 3, 4]) {
    it(`is not claimed to be, where the server shows none of ours, and another sharer goes after ${after} questions`, async () => {
      const one = await sharer(after, { hidesOwn: true });
      for (let round = 0; round < 2; round++) {
        const found = await check(one);
        assert.deepEqual([texts(found), found.confirmed], ['', 1]);
      }
    });
  }

  for (const [what, options] of [
    ['the low 32 bits of an offset', { offsetBits: 32 }],
    ['the low 31 bits', { offsetBits: 31 }],
    ['whole files', { offsetBits: 0 }],
    ['whole files, and shows none of ours', { offsetBits: 0, hidesOwn: true }],
  ] as const) {
    for (const after of [2, 3, 4]) {
      it(`is not dropped by its helper, which learns, where the server knows ${what}, and another sharer goes after ${after} questions`, async () => {
        const one = await sharer(after, options);
        for (let round = 0; round < 2; round++) {
          assert.deepEqual(await storage.locks(), [{ name: 'disk', mount: 0, shared: true }]);
          assert.equal((await check(one)).confirmed, 1);
        }
      });
    }
  }

  it('ends its owner where the configuration says so, and no owner of another lock', async () => {
    const configuration = `${EVERY_SECOND}lost_locks = "end"\n`;
    await mountIt();
    const one = await host('node7', configuration);
    const [owner, bystander] = ['1000', '1001'].map((seconds) => one.daemon.lab.spawn('sleep', [seconds]));
    assert.ok(owner !== undefined && bystander !== undefined);
    const db = await one.connect('db', owner.pid, mount);
    await db.must(lock.acquire(mount, NAME, autocreate));
    const web = await one.connect('web', bystander.pid, mount);
    await web.must(lock.acquire('', `${one.daemon.lab.directory}/local`, autocreate));
    await confirmed(one);
    const { web: rival } = await other();
    await storage.drop();
    await rival.must(lock.acquire(mount, NAME, autocreate));
    await one.logs(/The owners of resource '.*' are ended: lost_locks is "end"/);
    await eventually('the owner is ended', () => owner.finished !== undefined);
    await eventually('its hold is released', async () => (await one.status()).locks === 1);
    assert.equal(bystander.finished, undefined);
    assert.ok(existsSync(join(mount, NAME)));
    await bystander.stop();
  });

  it('that was lost before the daemon asks keeps its file when it is released', async () => {
    const { one, db } = await holder(NEVER);
    const { two, web } = await other();
    await storage.drop();
    await web.must(lock.acquire(mount, NAME, autocreate));
    await db.must(lock.release(mount, NAME));
    assert.ok(existsSync(join(mount, NAME)));
    assert.equal((await check(two)).confirmed, 1);
    assert.equal((await check(one)).locks, 0);
    // Nor is the other host's note touched, which stands where ours stood.
    assert.match(await one.lockctl('why', join(mount, NAME)), /web \(pid 4200001\) on host node8/);
  });

  it('keeps its file at the release where the storage cannot say whose it is', async () => {
    const { one, db } = await holder(NEVER);
    const { two, web } = await other();
    await storage.drop();
    await web.must(lock.acquire(mount, NAME, autocreate));
    for (const request of ['getlk', 'setlk'] as const) await storage.fail(request, EIO);
    await db.must(lock.release(mount, NAME));
    await storage.letGo();
    assert.ok(existsSync(join(mount, NAME)));
    assert.equal((await check(two)).confirmed, 1);
    assert.equal((await check(one)).locks, 0);
  });

  it('is found though its helper was killed after it was granted', async () => {
    const { one } = await holder(RARELY);
    await confirmed(one);
    const [helper = 0] = storageHelpers(mount);
    process.kill(helper, 'SIGKILL');
    await one.logs(/The lock of resource '.*' was taken again/);
    // The next one learns what the storage answers of a lock that is held.
    await storage.asked('getlk', storage.requests.lastIndexOf('setlk'));
    const { web } = await other();
    await storage.drop();
    await web.must(lock.acquire(mount, NAME, autocreate));
    assert.match(texts(await check(one)), /^error: another process or host has it/);
  });

  it('is unknown while the storage hangs: nobody else waits, and nobody is ended', async () => {
    const { one, db } = await holder(`${EVERY_SECOND}lost_locks = "end"\n`);
    await confirmed(one);
    await storage.hang('getlk');
    await storage.asked('getlk', storage.requests.length);
    const others = await one.connect('other', NOBODY + 5, mount);
    await within(others.must(lock.acquire('', `${one.daemon.lab.directory}/local`, autocreate)), 1000);
    const before = performance.now();
    const found = await check(one);
    assert.ok(performance.now() - before < 8000);
    assert.match(texts(found), /warning: whether the lock is still held is not known: its file system does not answer/);
    assert.doesNotMatch(texts(found), /error/);
    await storage.letGo();
    await confirmed(one);
    assert.doesNotMatch(one.daemon.log, /is lost|are ended/);
    await db.must(lock.release(mount, NAME));
  });

  it('is unknown while the storage answers with errors', async () => {
    const { one } = await holder(`${EVERY_SECOND}lost_locks = "end"\n`);
    await confirmed(one);
    await storage.fail('getlk', EIO);
    await one.logs(/Whether the lock of resource '.*' is still held is not known: Input\/output error/);
    assert.match(texts(await check(one)), /^warning: whether the lock is still held is not known: Input\/output error/);
    assert.equal(await counter(one, 'unconfirmedLocks'), 1);
    await storage.fail('getlk', 0);
    await confirmed(one);
    assert.equal(await counter(one, 'unconfirmedLocks'), 0);
    assert.doesNotMatch(one.daemon.log, /is lost|are ended/);
  });

  it('is not found where the server reports no locks, and is not claimed to be', async () => {
    const { one } = await holder(EVERY_SECOND, { hasOwnLocks: true, grantsAll: true });
    await confirmed(one);
    const before = storage.requests.length;
    await storage.drop();
    await storage.asked('getlk', before);
    await check(one);
    assert.doesNotMatch(one.daemon.log, /is lost/);
  });

  it('is unknown where another lock is in the way from the start', async () => {
    await mountIt();
    const one = await host('node7', `${EVERY_SECOND}lost_locks = "end"\n`);
    const db = await one.connect('db', NOBODY, mount);
    await storage.holder(1234);
    await db.must(lock.acquire('', join(mount, 'disk'), 0));
    await one.logs(/another lock was in its way when its file system was first asked/);
    assert.match(texts(await check(one)), /^warning: /);
    assert.doesNotMatch(one.daemon.log, /is lost|are ended/);
  });
});
