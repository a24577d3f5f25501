/** Who holds a lock, as a lock file on storage that two hosts mount says it to the other host. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { indirectName } from '../../../src/lab/guest.ts';
import { HangingStorage, unmount } from '../../../src/lab/hanging-storage.ts';
import { makePlaceDirectory, removePlaceDirectory } from '../../../src/lab/place.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { C_PROGRAM, programOf, reexecute } from '../../../src/lab/start.ts';
import { autocreate, lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { connectClient, InquireClient } from '../../../src/programs/lockctl/inquire-client.ts';
import { Model } from '../../../src/programs/lockctl/serve/model.ts';
import { resolveTarget } from '../../../src/programs/lockctl/target.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';
import { Host } from '../../support/host.ts';
import { BUSY, NOBODY, within } from './storage-scene.ts';

const { EDQUOT, EIO, ENOSPC, EROFS } = constants.errno;
const DISK = '/images/db.qcow2';
const NAME = indirectName(DISK);

describe('the holder of a lock on shared storage', function () {
  this.timeout(60_000);
  let directory: string;
  let storage: HangingStorage;
  let mount: string;
  let hosts: Host[];

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
  });

  beforeEach(async () => {
    directory = makePlaceDirectory(0o755);
    hosts = [];
    storage = await HangingStorage.mountAt(join(directory, 'storage'), { hasOwnLocks: true });
    ({ mount } = storage);
  });

  afterEach(async () => {
    await storage.letGo();
    for (const host of hosts) await host.close();
    await storage.end();
    unmount(mount);
    removePlaceDirectory(directory);
  });

  const at = (name: string): string => join(mount, name);
  const text = (name = NAME): string => readFileSync(at(name), 'latin1');

  async function host(name: string, kind: 'ours' | 'displaced' | '9.0.0' = 'ours'): Promise<Host> {
    const started = await Host.start(name, { kind, share: [mount] });
    hosts.push(started);
    return started;
  }

  /** Two hosts, and a guest of each. */
  async function pair(): Promise<{ one: Host; two: Host; db: Peer; web: Peer }> {
    const [one, two] = [await host('node7'), await host('node8')];
    return { one, two, db: await one.connect('db', NOBODY, mount), web: await two.connect('web', NOBODY + 1, mount) };
  }

  it('is named where another host is refused: in the log, and by every command', async () => {
    const { two, db, web } = await pair();
    await db.must(lock.acquire(mount, NAME, autocreate));
    const error = await web.ask(lock.acquire(mount, NAME, autocreate));
    // As C's.
    assert.deepEqual([error?.code, error?.message], [BUSY, `resource busy: Lockspace resource '${NAME}' is locked`]);
    await two.logs(
      /Refused '.*' in lockspace .* to VM "web" .*: held by VM "db" \(pid 4200000\) on host node7, since 2/,
    );
    const noted = /db \(pid 4200000\) on host node7/;
    assert.match(await two.lockctl('refusals'), noted);
    assert.match(await two.lockctl('who', DISK), /db \(pid 4200000\) on host node7 holds an exclusive lock as /);
    assert.match(await two.lockctl('who', at(NAME)), noted);
    assert.match(await two.lockctl('why', DISK), noted);
    assert.match(await two.lockctl('why', '--lockspace', mount, NAME), noted);
    const [refusal] = JSON.parse(await two.lockctl('refusals', '--json')) as { hosts: { host: string }[] }[];
    assert.equal(refusal?.hosts[0]?.host, 'node7');
    const who = JSON.parse(await two.lockctl('who', '--json', DISK)) as { hosts: Record<string, unknown>[] };
    const { host: name, mode, since, pid } = who.hosts[0] ?? {};
    assert.deepEqual([name, mode, pid], ['node7', 'exclusive', NOBODY]);
    assert.ok(Math.abs(Date.parse(String(since)) - Date.now()) < 30_000);
    assert.doesNotMatch(await two.lockctl('check'), /error/);
  });

  it('is named to who watches, and on the page', async () => {
    const { two, db, web } = await pair();
    await db.must(lock.acquire(mount, NAME, autocreate));
    const watch = two.spawnLockctl('watch', '--no-clients');
    const watchJson = two.spawnLockctl('watch', '--no-clients', '--json');
    await eventually('both have subscribed', async () => (await two.status()).subscribers === 2);
    await web.ask(lock.acquire(mount, NAME, autocreate));
    await eventually('the refusal is printed', () => watch.output.includes('refused'));
    assert.match(watch.output, /held by db \(pid 4200000\) on host node7, since 2/);
    await eventually('it is printed as JSON', () => watchJson.output.includes('refused'));
    const { hosts: noted } = JSON.parse(watchJson.output) as { hosts: { host: string }[] };
    assert.equal(noted[0]?.host, 'node7');
    for (const one of [watch, watchJson]) await one.stop();
    const model = new Model();
    const daemon = new InquireClient(resolveTarget(two.daemon.adminSocket), connectClient);
    await model.read(daemon);
    daemon.close();
    const [row] = model.search('').tables.refusals.rows;
    assert.match(row?.cells.join(' ') ?? '', /db \(pid 4200000\) on host node7, since 2/);
  });

  it('is still named after its daemon has executed itself, and after the daemon that asks has', async () => {
    const { one, two, db, web } = await pair();
    await db.must(lock.acquire(mount, NAME, autocreate));
    await web.ask(lock.acquire(mount, NAME, autocreate));
    await two.logs(/on host node7/);
    const before = await two.lockctl('refusals');
    await reexecute(one.daemon);
    await reexecute(two.daemon);
    assert.equal(await two.lockctl('refusals'), before);
    assert.match(await two.lockctl('who', DISK), /on host node7/);
    await db.must(lock.release(mount, NAME));
    await web.must(lock.acquire(mount, NAME, autocreate));
    assert.match(text(), /host=node8\n/);
    assert.doesNotMatch(text(), /node7/);
  });

  it('is each of several that share, and none that has given up its share', async () => {
    const { one, two, db, web } = await pair();
    for (const peer of [db, web]) await peer.must(lock.acquire(mount, NAME, autocreate | shared));
    const more = await one.connect('more', NOBODY + 2, mount);
    await more.must(lock.acquire(mount, NAME, autocreate | shared));
    await eventually('two owners are noted', () => text().includes('owners=2'));
    const third = await host('node9');
    const who = await third.lockctl('who', '--json', at(NAME));
    const named = (JSON.parse(who) as { hosts: { host: string; owners: number }[] }).hosts;
    assert.deepEqual(
      named.map(({ host: name, owners }) => `${name} ${owners}`),
      ['node7 2', 'node8 1'],
    );
    await db.must(lock.release(mount, NAME));
    await eventually('the other guest is noted', () => text().includes('vm=more'));
    await more.must(lock.release(mount, NAME));
    assert.doesNotMatch(text(), /node7/);
    assert.match(text(), /node8/);
    assert.ok(readFileSync(at(NAME)).length <= 16_384);
    await web.must(lock.release(mount, NAME));
    assert.match(await two.lockctl('who', at(NAME)), /there is no such file/);
  });

  it('is not named by what a host has left that is gone', async function () {
    skipIf(this, missingDaemon('9.0.0'));
    const { two, db, web } = await pair();
    await db.must(lock.acquire(mount, NAME, autocreate));
    const left = readFileSync(at(NAME));
    await db.must(lock.release(mount, NAME));
    // As after a death of the host: its file is there, and its locks are not.
    writeFileSync(at(NAME), left);
    const c = await host('c-host', '9.0.0');
    const other = await c.connect('other', NOBODY + 4, mount);
    await other.must(lock.acquire(mount, NAME, autocreate));
    assert.equal((await web.ask(lock.acquire(mount, NAME, autocreate)))?.code, BUSY);
    await two.logs(/held by another host, or a process with an OFD lock/);
    assert.match(await two.lockctl('who', at(NAME)), /^Another host holds a lock/m);
    assert.doesNotMatch(await two.lockctl('refusals'), /node7/);
    await other.must(lock.release(mount, NAME));
    await web.must(lock.acquire(mount, NAME, autocreate));
    assert.match(text(), /host=node8\n/);
  });

  it('is no obstacle for a C daemon, which neither reads nor keeps what is noted', async function () {
    skipIf(this, missingDaemon('9.0.0'));
    const one = await host('node7');
    const c = await host('c-host', '9.0.0');
    const db = await one.connect('db', NOBODY, mount);
    const other = await c.connect('other', NOBODY + 1, mount);
    await db.must(lock.acquire(mount, NAME, autocreate));
    assert.equal((await other.ask(lock.acquire(mount, NAME, autocreate)))?.code, BUSY);
    await db.must(lock.release(mount, NAME));
    await other.must(lock.acquire(mount, NAME, autocreate));
    assert.equal(text(), '');
    assert.equal((await db.ask(lock.acquire(mount, NAME, autocreate)))?.code, BUSY);
  });

  for (const [name, errno] of [
    ['full', ENOSPC],
    ['broken', EIO],
    ['over its quota', EDQUOT],
    ['read-only', EROFS],
  ] as const) {
    it(`gets the lock, without a note, on storage that is ${name}`, async () => {
      const { one, two, db, web } = await pair();
      await storage.fail('write', errno);
      await db.must(lock.acquire(mount, NAME, autocreate));
      assert.equal((await web.ask(lock.acquire(mount, NAME, autocreate)))?.code, BUSY);
      await two.logs(/held by another host, or a process with an OFD lock/);
      await storage.fail('write', 0);
      await db.must(lock.release(mount, NAME));
      await web.must(lock.acquire(mount, NAME, autocreate));
      assert.match(one.daemon.log, /Other hosts cannot read who holds/);
    });
  }

  for (const request of ['write', 'fsync'] as const) {
    it(`keeps nobody else waiting while its note hangs in ${request}`, async () => {
      const { one, db } = await pair();
      const local = join(one.daemon.lab.directory, 'local');
      const other = await one.connect('other', NOBODY + 5, local);
      await storage.hang(request);
      const answer = db.ask(lock.acquire(mount, NAME, autocreate));
      await storage.asked(request);
      await within(other.must(lock.acquire(local, NAME, autocreate)), 1000);
      await reexecute(one.daemon);
      await within(other.must(lock.release(local, NAME)), 1000);
      await storage.letGo();
      assert.equal(await within(answer), undefined);
      assert.match(text(), /host=node7\n/);
    });
  }

  it('is given back when its connection ends before it was told of the lock', async () => {
    const { db, web } = await pair();
    await storage.hang('write');
    const answer = db.ask(lock.acquire(mount, NAME, autocreate)).catch(() => undefined);
    await storage.asked('write');
    db.close();
    await answer;
    await storage.letGo();
    await eventually('the other gets it', async () => {
      return (await web.ask(lock.acquire(mount, NAME, autocreate))) === undefined;
    });
    assert.match(text(), /host=node8\n/);
  });

  it('writes into nothing that may be somebody else’s, nor on local storage', async () => {
    const { one, db } = await pair();
    const local = join(one.daemon.lab.directory, 'local');
    await db.must(lock.createLockspace(local));
    await db.must(lock.acquire(local, NAME, autocreate));
    assert.equal(readFileSync(join(local, NAME), 'latin1'), '');
    const image = Buffer.from('QFI\xfb an image', 'latin1');
    mkdirSync(at('space'));
    const space = at('space');
    await db.must(lock.createLockspace(space));
    const keeps = async (lockspace: string, name: string, path: string, content: Buffer): Promise<void> => {
      await db.must(lock.acquire(lockspace, name, autocreate));
      assert.deepEqual(readFileSync(path), content, `${lockspace} ${name}`);
      await db.must(lock.release(lockspace, name));
      rmSync(path, { force: true });
    };
    const empty = Buffer.alloc(0);
    writeFileSync(at('image'), image);
    await keeps('', at('image'), at('image'), image);
    writeFileSync(at('empty'), '');
    await keeps('', at('empty'), at('empty'), empty);
    writeFileSync(at('image'), image);
    await keeps(mount, 'image', at('image'), image);
    writeFileSync(at('short'), 'v');
    await keeps(mount, 'short', at('short'), Buffer.from('v'));
    writeFileSync(at('lease'), '');
    await db.must(lock.acquire(mount, 'lease'));
    assert.equal(text('lease'), '');
    await db.must(lock.release(mount, 'lease'));
  });

  it('stays unknown, and keeps nobody waiting, while what it has noted cannot be read', async () => {
    const { two, db, web } = await pair();
    await db.must(lock.acquire(mount, NAME, autocreate));
    await storage.hang('read');
    const error = await within(web.ask(lock.acquire(mount, NAME, autocreate)), 1000);
    assert.equal(error?.code, BUSY);
    await two.logs(/held by another host, or a process with an OFD lock/);
    assert.match(await two.lockctl('refusals'), /held by another host/);
    await storage.letGo();
    await eventually('it is known', async () => (await two.lockctl('refusals')).includes('on host node7'));
  });

  it('is noted again when its helper has died', async () => {
    const { one, db } = await pair();
    await db.must(lock.acquire(mount, NAME, autocreate));
    for (const pid of storageHelpers(mount)) process.kill(pid, 'SIGKILL');
    await one.logs(/was taken again/);
    await eventually('it is noted', () => text().includes('vm=db\n'));
    assert.match((await hosts[1]?.lockctl('who', at(NAME))) ?? '', /db \(pid 4200000\) on host node7/);
  });

  it('is named while a C daemon has taken it over, which removes the file, and not once it is taken back', async function () {
    skipIf(this, missingDaemon('9.0.0'));
    const [one, two] = [await host('node7', 'displaced'), await host('node8')];
    const db = await one.connect('db', NOBODY, mount);
    const web = await two.connect('web', NOBODY + 1, mount);
    await db.must(lock.acquire(mount, NAME, autocreate));
    one.daemon.lab.install(C_PROGRAM);
    await reexecute(one.daemon);
    assert.equal((await web.ask(lock.acquire(mount, NAME, autocreate)))?.code, BUSY);
    await two.logs(/on host node7/);
    one.daemon.lab.install(programOf('ours'));
    await reexecute(one.daemon);
    assert.equal((await web.ask(lock.acquire(mount, NAME, autocreate)))?.code, BUSY);
    await db.must(lock.release(mount, NAME));
    await web.must(lock.acquire(mount, NAME, autocreate));
    assert.match(text(), /host=node8\n/);
  });
});
