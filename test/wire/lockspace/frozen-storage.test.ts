/** A local file system is frozen: whoever makes or removes a name there waits until it is thawed, and nobody else. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { admin } from '../../../src/lab/admin-calls.ts';
import { FreezingStorage } from '../../../src/lab/freezing-storage.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFreeze } from '../../../src/lab/requirements.ts';
import { C_PROGRAM, displace, type LockDaemon, programOf, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { autocreate, encode, lock, type Peer, type WireError } from '../../../src/lab/wire.ts';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { Actor } from '../../../src/programs/conformance/exchange/actor.ts';
import { skipIf } from '../../support/skip.ts';
import { processesNamed, storageHelpers } from '../../support/storage-helpers.ts';
import { BUSY, NOBODY } from './storage-scene.ts';

describe('a local file system that is frozen', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let storage: FreezingStorage;
  let guest: Peer;
  let others = 0;

  beforeEach(function () {
    skipIf(this, missingDaemon('ours'), missingFreeze());
  });

  interface Setting {
    /** A C daemon is to take over. */
    readonly asC?: boolean;
    readonly isUpperLayer?: boolean;
  }

  async function begin({ asC = false, isUpperLayer = false }: Setting = {}): Promise<void> {
    const lab = await openLab();
    if (asC) displace(lab, programOf('ours'));
    daemon = await startDaemon('ours', asC ? { lab, program: PROGRAM } : { lab });
    storage = await FreezingStorage.start(lab, { isUpperLayer });
    guest = await connect('guest');
    await guest.must(lock.createResource('', at('disk')));
    await guest.must(lock.createResource('', at('old')));
    await guest.must(lock.acquire('', at('held'), autocreate));
  }

  afterEach(async () => {
    await storage.end();
    await daemon.stop();
    await daemon.lab.close();
  });

  async function connect(name: string, pid = NOBODY): Promise<Peer> {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid, name }));
    return peer;
  }

  const at = (name: string): string => storage.at(name);

  /** A newcomer gets and gives back a lease elsewhere, and a disk on the frozen file system. */
  async function assertServed(): Promise<void> {
    const before = performance.now();
    const other = await connect('other', NOBODY + 1);
    for (const [path, flags] of [
      [`${daemon.lab.directory}/local ${others++}`, autocreate],
      [at('disk'), 0],
    ] as const) {
      await other.must(lock.acquire('', path, flags));
      await other.must(lock.release('', path));
    }
    other.close();
    assert.ok(performance.now() - before < 1000, 'others wait');
  }

  function asking(peer: Peer, call: Parameters<Peer['ask']>[0]) {
    const state: { isAnswered: boolean } = { isAnswered: false };
    const answer: Promise<WireError | undefined> = peer.ask(call).finally(() => {
      state.isAnswered = true;
    });
    return { answer, state };
  }

  /** Waits until a helper waits for the file system. */
  async function tried(): Promise<void> {
    await eventually('a helper waits', () =>
      storageHelpers(storage.mount).some((pid) => readFileSync(`/proc/${pid}/stat`, 'latin1').includes(' D ')),
    );
  }

  const calls = {
    'an ACQUIRE that makes its file': () => lock.acquire('', at('lease'), autocreate),
    'a RELEASE that removes its file': () => lock.release('', at('held')),
    'a CREATE_RESOURCE': () => lock.createResource('', at('new')),
    'a DELETE_RESOURCE': () => lock.deleteResource('', at('old')),
    'a NEW of a lockspace': () => lock.newLockspace(at('space')),
    'a NEW of a lockspace in directories that are to be made': () => lock.newLockspace(at('one/more/space')),
  };
  for (const isUpperLayer of [false, true]) {
    const where = isUpperLayer ? ' in an overlay whose upper layer is there' : '';
    for (const [what, call] of Object.entries(calls)) {
      it(`keeps ${what}${where} waiting, and nobody else`, async () => {
        await begin({ isUpperLayer });
        await storage.freeze();
        const { answer, state } = asking(guest, call());
        await tried();
        await assertServed();
        assert.equal(state.isAnswered, false);
        await storage.thaw();
        assert.equal(await answer, undefined);
      });
    }
  }

  it('keeps an ACQUIRE waiting that makes its file by a link from elsewhere, and nobody else', async () => {
    await begin();
    const link = `${daemon.lab.directory}/link`;
    symlinkSync('one more', daemon.lab.outside(link));
    symlinkSync(at('linked'), daemon.lab.outside(`${daemon.lab.directory}/one more`));
    await storage.freeze();
    const { answer, state } = asking(guest, lock.acquire('', link, autocreate));
    await tried();
    await assertServed();
    assert.equal(state.isAnswered, false);
    await storage.thaw();
    assert.equal(await answer, undefined);
    assert.ok(existsSync(daemon.lab.outside(at('linked'))));
  });

  /** Has all calls be logged into a file there. Returns what was logged. */
  async function logThere(): Promise<() => string> {
    const file = at('log');
    const operator = await daemon.connectAdmin();
    await operator.must(admin.setOutputs(`1:file:${file}`));
    await operator.must(admin.setFilters('1:rpc'));
    operator.close();
    const log = (): string => readFileSync(daemon.lab.outside(file), 'latin1');
    await eventually('it is written', () => log().includes('hostname: '));
    return log;
  }

  it('keeps nobody waiting whose calls are logged there, also after a restart, and loses no line', async () => {
    await begin();
    const log = await logThere();
    const before = log();
    await storage.freeze();
    await assertServed();
    await reexecute(daemon);
    await assertServed();
    assert.equal(log(), before);
    await storage.thaw();
    await eventually('both programs have logged', () => log().split('hostname: ').length === 3);
  });

  it('is logged to by another process when the one that did is killed', async () => {
    await begin();
    const log = await logThere();
    const [writer = 0, ...others] = processesNamed(`virtlockd-log\0${at('log')}\0`);
    assert.deepEqual([writer > 0, others], [true, []]);
    process.kill(writer, 'SIGKILL');
    await eventually('it is gone', () => !existsSync(`/proc/${writer}`));
    const before = log().length;
    await assertServed();
    await eventually('the log goes on', () => log().length > before);
  });

  it('keeps the leases of an owner that has ended until it is thawed, then lets in who has asked', async () => {
    await begin();
    const owner = Actor.start();
    await owner.open('own', daemon.socket);
    await owner.send('own', encode({ ...lock.register({ pid: owner.pid }), serial: 1 }));
    await owner.send('own', encode({ ...lock.acquire('', at('lease'), autocreate), serial: 2 }));
    const rival = await connect('rival', NOBODY + 2);
    await eventually('it has the lock', async () => (await rival.ask(lock.release('', at('lease'))))?.code === 1);
    await storage.freeze();
    await owner.stop();
    await assertServed();
    const { answer, state } = asking(rival, lock.acquire('', at('lease'), autocreate));
    await assertServed();
    assert.equal(state.isAnswered, false);
    await storage.thaw();
    assert.equal(await answer, undefined);
  });

  it('is not written to by a restart: waiting calls travel, and are answered by the next program', async () => {
    await begin();
    const rival = await connect('rival', NOBODY + 2);
    await storage.freeze();
    const released = asking(guest, lock.release('', at('held')));
    const made = asking(rival, lock.acquire('', at('lease'), autocreate));
    await tried();
    for (let round = 0; round < 2; round++) {
      await reexecute(daemon);
      await assertServed();
      assert.deepEqual([released.state.isAnswered, made.state.isAnswered], [false, false]);
    }
    await storage.thaw();
    assert.equal(await released.answer, undefined);
    assert.equal(await made.answer, undefined);
    assert.deepEqual([existsSync(daemon.lab.outside(at('held'))), storageHelpers(storage.mount).length], [false, 1]);
    await rival.must(lock.acquire('', at('held'), autocreate));
    assert.equal((await guest.ask(lock.acquire('', at('lease'), autocreate)))?.code, BUSY);
  });

  it('does not keep the daemon from its end', async () => {
    await begin();
    await storage.freeze();
    const before = performance.now();
    daemon.process.kill('SIGTERM');
    const { code } = await daemon.exited;
    assert.equal(code, 0);
    assert.ok(performance.now() - before < 8000);
    assert.match(daemon.log, /held' leaves its file behind, because the file system at \S+ does not answer/);
  });

  it('keeps a C daemon from taking over a release, and from nothing else', async function () {
    skipIf(this, missingDaemon('9.0.0'));
    await begin({ asC: true });
    const rival = await connect('rival', NOBODY + 2);
    await rival.must(lock.acquire('', at('disk')));
    daemon.lab.install(C_PROGRAM);
    await storage.freeze();
    const { answer } = asking(guest, lock.release('', at('held')));
    await tried();
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('it is refused', () => daemon.log.includes('Unable to re-execute, service goes on'));
    assert.match(daemon.log, /service goes on: the file system at \S+ does not answer/);
    await storage.thaw();
    assert.equal(await answer, undefined);
    await storage.freeze();
    await reexecute(daemon);
    assert.equal((await guest.ask(lock.acquire('', at('disk'))))?.code, BUSY);
  });
});
