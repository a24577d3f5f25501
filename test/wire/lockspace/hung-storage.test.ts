/** One storage does not answer, or answers with errors: whoever has called for it waits, and nobody else. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { inquireProgram } from '../../../xdr/programs/inquire.ts';
import { Client } from '../../../src/client/client.ts';
import type { HangingStorage, StorageRequest } from '../../../src/lab/hanging-storage.ts';
import { eventually, type Finished, type Running } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { C_PROGRAM, type LockDaemon, reexecute } from '../../../src/lab/start.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { autocreate, encode, lock, type Peer, shared, type WireError } from '../../../src/lab/wire.ts';
import { childrenOf } from '../../../src/proc/processes.ts';
import { Actor } from '../../../src/programs/conformance/exchange/actor.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';
import { BUSY, NOBODY, StorageScene } from './storage-scene.ts';

const [F_SETLKW, F_OFD_SETLKW] = [7, 38];
const { EIO, ENOLCK, ESTALE, ETIMEDOUT, EINTR } = os.constants.errno;

/** In the output of `virt-lockctl status --json`. */
interface HungStorage {
  readonly name: string;
  readonly hangsSince: string | null;
  readonly calls: readonly { readonly path: string; readonly owner: number; readonly since: string }[];
}

/** Reads a disk all the time, past all caches. */
const READER = `import mmap, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
while True:
    try:
        os.preadv(fd, [page], 0)
    except OSError:
        pass
    time.sleep(0.01)
`;

/** The daemon asks nothing by itself that could hang before what the test wants to hang. */
const UNASKED = 'lock_confirm_interval = 0\n';

describe('storage that does not answer', function () {
  this.timeout(120_000);
  let scene: StorageScene;
  let daemon: LockDaemon;
  let storage: HangingStorage;
  let mount: string;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
  });

  async function begin(options?: Parameters<typeof StorageScene.open>[0]): Promise<void> {
    scene = await StorageScene.open(options);
    ({ daemon, storage, mount } = scene);
  }

  afterEach(async () => {
    await scene.close();
  });

  const at = (name: string): string => `${mount}/${name}`;
  const connect = async (name: string, pid?: number): Promise<Peer> => scene.connect(name, pid);
  const assertServed = async (): Promise<void> => scene.assertServed();

  /** Asks, and reports whether there is an answer yet. */
  function asking(peer: Peer, call: Parameters<Peer['ask']>[0]) {
    const state: { error?: WireError | undefined; isAnswered: boolean } = { isAnswered: false };
    const answer = peer.ask(call).then((error) => {
      state.isAnswered = true;
      state.error = error;
      return error;
    });
    return { answer, state };
  }

  const helpers = (): number[] => storageHelpers(mount);

  // A request of each of the daemon's calls; `made`: it makes the file.
  const waits: readonly (readonly [StorageRequest, 'acquire' | 'make' | 'release' | 'delete' | 'create' | 'space'])[] =
    [
      ...(['lookup', 'open', 'setlk'] as const).map((request) => [request, 'acquire'] as const),
      ...(['lookup', 'create', 'setlk', 'getattr'] as const).map((request) => [request, 'make'] as const),
      ...(['setlk', 'flush', 'unlink', 'lookup'] as const).map((request) => [request, 'release'] as const),
      ...(['lookup', 'unlink'] as const).map((request) => [request, 'delete'] as const),
      ['create', 'create'],
      ['mkdir', 'space'],
    ];
  const calls = {
    acquire: () => lock.acquire('', at('disk')),
    make: () => lock.acquire('', at('lease'), autocreate),
    release: () => lock.release('', at('held')),
    delete: () => lock.deleteResource('', at('old')),
    create: () => lock.createResource('', at('new')),
    space: () => lock.newLockspace(at('space')),
  };

  for (const [request, call] of waits) {
    it(`keeps only its caller waiting while ${request} of ${call} hangs`, async () => {
      await begin({ hasOwnLocks: true });
      const guest = await connect('guest');
      await guest.must(lock.acquire('', at('held'), autocreate));
      await guest.must(lock.createResource('', at('old')));
      const before = storage.requests.length;
      await storage.hang(request);
      const { answer, state } = asking(guest, calls[call]());
      await storage.asked(request, before);
      await assertServed();
      assert.equal(state.isAnswered, false);
      await storage.letGo();
      assert.equal((await answer)?.message, undefined);
      if (call !== 'release') await guest.must(lock.release('', at('held')));
    });

    it(`frees and grants nothing when ${request} of ${call} fails`, async () => {
      await begin({ hasOwnLocks: true });
      const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
      for (const errno of [EIO, ENOLCK, ESTALE, ETIMEDOUT, EINTR]) {
        await guest.must(lock.acquire('', at('held'), autocreate));
        await guest.must(lock.createResource('', at('old')));
        await storage.fail(request, errno);
        const error = await guest.ask(calls[call]());
        await assertServed();
        await storage.letGo();
        if (call === 'release') assert.equal(error, undefined);
        else {
          assert.equal((await rival.ask(lock.acquire('', at('held'), autocreate)))?.code, BUSY);
          await guest.must(lock.release('', at('held')));
        }
        if (call !== 'acquire' && call !== 'make') continue;
        // What was refused is free, what was granted is held.
        const path = at(call === 'make' ? 'lease' : 'disk');
        const asked = await rival.ask(lock.acquire('', path, call === 'make' ? autocreate : 0));
        assert.equal(asked?.code, error === undefined ? BUSY : undefined);
        await (error === undefined ? guest : rival).must(lock.release('', path));
      }
    });
  }

  /** For each way in which such requests can go wrong. */
  async function forEachFault(request: StorageRequest, act: (before: number) => Promise<void>): Promise<void> {
    for (const errno of [undefined, EIO, ENOLCK, ESTALE, ETIMEDOUT, EINTR]) {
      const before = storage.requests.length;
      if (errno === undefined) await storage.hang(request);
      else await storage.fail(request, errno);
      await act(before);
      await storage.letGo();
    }
  }

  it('keeps nobody waiting, frees and grants nothing while release hangs or fails', async () => {
    await begin({ hasOwnLocks: true });
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await guest.must(lock.acquire('', at('held'), autocreate));
    await forEachFault('release', async (before) => {
      await guest.must(lock.acquire('', at('lease'), autocreate));
      await guest.must(lock.release('', at('lease')));
      await storage.asked('release', before);
      await assertServed();
      await rival.must(lock.acquire('', at('lease'), autocreate));
      await rival.must(lock.release('', at('lease')));
      assert.equal((await rival.ask(lock.acquire('', at('held'), autocreate)))?.code, BUSY);
    });
  });

  it('keeps nobody waiting, frees and grants nothing while read of a guest hangs or fails', async () => {
    await begin({ hasOwnLocks: true, hasData: true });
    const reader = daemon.lab.spawn('/usr/bin/python3', ['-c', READER, at('disk')]);
    const [guest, rival] = [await connect('guest', reader.pid), await connect('rival', NOBODY + 2)];
    await guest.must(lock.acquire('', at('disk')));
    const isRead = async (before: number): Promise<void> => {
      await storage.asked('read', before);
      await assertServed();
      assert.equal((await rival.ask(lock.acquire('', at('disk'))))?.code, BUSY);
    };
    await forEachFault('read', isRead);
    const before = storage.requests.length;
    await storage.hang('read');
    await isRead(before);
    reader.kill('SIGKILL');
    // It does not end before its storage answers.
    await assertServed();
    assert.equal((await rival.ask(lock.acquire('', at('disk'))))?.code, BUSY);
    await storage.letGo();
    await eventually('it is free', async () => (await rival.ask(lock.acquire('', at('disk')))) === undefined);
  });

  it('decides calls for one resource in the order in which they came, and no other waits for them', async () => {
    await begin({ hasOwnLocks: true });
    const [one, two, three] = [
      await connect('one'),
      await connect('two', NOBODY + 2),
      await connect('three', NOBODY + 3),
    ];
    await storage.hang('open');
    const first = asking(one, lock.acquire('', at('disk')));
    await storage.asked('open');
    const second = asking(two, lock.acquire('', at('disk')));
    await assertServed();
    const third = asking(three, lock.acquire('', at('disk'), shared));
    await assertServed();
    await storage.letGo();
    assert.equal(await first.answer, undefined);
    assert.equal((await second.answer)?.code, BUSY);
    assert.equal((await third.answer)?.code, BUSY);
  });

  it('forgets the call of a connection that ends, and undoes what comes of it', async () => {
    await begin({ hasOwnLocks: true });
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await storage.hang('open');
    const { answer } = asking(guest, lock.acquire('', at('disk')));
    await storage.asked('open');
    const asked = asking(rival, lock.acquire('', at('disk')));
    await assertServed();
    guest.close();
    await answer.catch(() => undefined);
    await assertServed();
    await storage.letGo();
    assert.equal(await asked.answer, undefined);
  });

  it('keeps what is being released until that is done, and lets in who has asked for it then', async () => {
    await begin({ hasOwnLocks: true });
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await storage.hang('unlink');
    const released = asking(guest, lock.release('', at('lease')));
    await storage.asked('unlink');
    const asked = asking(rival, lock.acquire('', at('lease'), autocreate));
    await assertServed();
    assert.deepEqual([released.state.isAnswered, asked.state.isAnswered], [false, false]);
    await storage.letGo();
    assert.equal(await released.answer, undefined);
    assert.equal(await asked.answer, undefined);
  });

  it('finishes a release whose caller hangs up', async () => {
    await begin({ hasOwnLocks: true, configuration: UNASKED });
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await storage.hang('flush');
    const { answer } = asking(guest, lock.release('', at('lease')));
    await storage.asked('unlink');
    guest.close();
    await answer.catch(() => undefined);
    await assertServed();
    await storage.letGo();
    await rival.must(lock.acquire('', at('lease'), autocreate));
  });

  it('releases the locks of an owner that ends when its storage answers again', async () => {
    await begin({ hasOwnLocks: true });
    const guest = Actor.start();
    await guest.open('own', daemon.socket);
    await guest.send('own', encode({ ...lock.register({ pid: guest.pid }), serial: 1 }));
    await guest.send('own', encode({ ...lock.acquire('', at('lease'), autocreate), serial: 2 }));
    const rival = await connect('rival', NOBODY + 2);
    await eventually('it has the lock', async () => (await rival.ask(lock.release('', at('lease'))))?.code === 1);
    await storage.hang('setlk', 'unlink', 'flush', 'getattr');
    await guest.stop();
    await assertServed();
    const asked = asking(rival, lock.acquire('', at('lease'), autocreate));
    await assertServed();
    assert.equal(asked.state.isAnswered, false);
    await storage.letGo();
    assert.equal(await asked.answer, undefined);
  });

  it('is not asked by a restart: waiting calls travel, and are answered by the next program', async () => {
    await begin({ hasOwnLocks: true, configuration: UNASKED });
    const [guest, rival, third] = [
      await connect('guest'),
      await connect('rival', NOBODY + 2),
      await connect('third', NOBODY + 3),
    ];
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await third.must(lock.acquire('', at('kept'), autocreate));
    await storage.hang('open', 'unlink');
    const released = asking(guest, lock.release('', at('lease')));
    await storage.asked('unlink');
    const asked = asking(rival, lock.acquire('', at('disk')));
    for (let round = 0; round < 2; round++) {
      await reexecute(daemon);
      await assertServed();
      assert.deepEqual([released.state.isAnswered, asked.state.isAnswered], [false, false]);
    }
    await storage.letGo();
    assert.equal(await released.answer, undefined);
    assert.equal(await asked.answer, undefined);
    assert.equal((await guest.ask(lock.acquire('', at('kept'), autocreate)))?.code, BUSY);
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await third.must(lock.release('', at('kept')));
    assert.doesNotMatch(daemon.log, /lost|Lost/);
    assert.equal(helpers().length, 1);
  });

  it('goes on with a release that began while the next program was proven', async () => {
    await begin({ hasOwnLocks: true, configuration: UNASKED });
    const guest = await connect('guest');
    await guest.must(lock.acquire('', at('kept'), autocreate));
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await storage.hang('unlink');
    const restarted = reexecute(daemon);
    const isProving = (): boolean => hasOtherChild(daemon.pid, helpers());
    await eventually('the next program is proven', isProving);
    const released = asking(guest, lock.release('', at('lease')));
    await storage.asked('unlink');
    await restarted;
    await assertServed();
    assert.equal(released.state.isAnswered, false);
    await storage.letGo();
    assert.equal(await released.answer, undefined);
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await guest.must(lock.release('', at('kept')));
  });

  it('keeps none of 100 guests but its own waiting through a restart', async () => {
    await begin({ hasOwnLocks: true });
    const guests = await Promise.all(Array.from({ length: 100 }, async (_, i) => connect(`guest ${i}`, NOBODY + i)));
    const [hung, ...rest] = guests;
    assert.ok(hung !== undefined);
    await hung.must(lock.acquire('', at('lease'), autocreate));
    const disks = rest.map((_, i) => `${daemon.lab.directory}/disk ${i}`);
    await Promise.all(rest.map(async (guest, i) => guest.must(lock.acquire('', disks[i] ?? '', autocreate))));
    await storage.hang('open', 'unlink', 'setlk', 'getattr', 'flush', 'lookup');
    const asked = asking(hung, lock.acquire('', at('disk')));
    await storage.asked('lookup');
    const before = performance.now();
    await reexecute(daemon);
    const codes = await Promise.all(
      rest.map(async (guest, i) => (await guest.ask(lock.acquire('', disks[i] ?? '', autocreate)))?.code),
    );
    await Promise.all(rest.map(async (guest, i) => guest.must(lock.release('', disks[i] ?? ''))));
    assert.ok(performance.now() - before < 5000, 'others wait');
    assert.deepEqual(new Set(codes), new Set([BUSY]));
    assert.equal(asked.state.isAnswered, false);
    await storage.letGo();
    assert.equal(await asked.answer, undefined);
    await hung.must(lock.release('', at('lease')));
    assert.doesNotMatch(daemon.log, / lost/);
  });

  it('is asked after a restart in the order in which the calls came, whatever the order of their connections', async () => {
    await begin({ hasOwnLocks: true });
    const peers = [await connect('one'), await connect('two', NOBODY + 2), await connect('three', NOBODY + 3)];
    const [one, two, three] = peers;
    assert.ok(one !== undefined && two !== undefined && three !== undefined);
    await storage.hang('open');
    const calls: Promise<WireError | undefined>[] = [];
    for (const peer of [three, one]) {
      calls.push(asking(peer, lock.acquire('', at('disk'))).answer);
      await assertServed();
    }
    for (let round = 0; round < 2; round++) {
      await reexecute(daemon);
      await assertServed();
    }
    calls.push(asking(two, lock.acquire('', at('disk'))).answer);
    await assertServed();
    await reexecute(daemon);
    await storage.letGo();
    const answers = await Promise.all(calls);
    assert.deepEqual(
      answers.map((error) => error?.code),
      [undefined, BUSY, BUSY],
    );
  });

  it('gives back what was granted after the restart to a call that nobody repeats', async () => {
    await begin({ hasOwnLocks: true });
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await storage.hang('open');
    const { answer } = asking(guest, lock.acquire('', at('disk')));
    await storage.asked('open');
    await reexecute(daemon);
    guest.close();
    await answer.catch(() => undefined);
    await assertServed();
    await storage.letGo();
    await rival.must(lock.acquire('', at('disk')));
  });

  it('is named by status and the log, with the calls that wait for it: for whom, and since when', async () => {
    await begin({ hasOwnLocks: true, configuration: UNASKED });
    const [guest, other] = [await connect('guest'), await connect('other', NOBODY + 7)];
    await guest.must(lock.acquire('', at('held'), autocreate));
    await guest.must(lock.acquire('', `${daemon.lab.directory}/healthy`, autocreate));
    const before = storage.requests.length;
    await storage.hang('open');
    const first = asking(guest, lock.acquire('', at('disk')));
    await storage.asked('open', before);
    const second = asking(other, lock.acquire('', at('missing')));
    const client = await Client.connect(daemon.adminSocket);
    const warnings = async (): Promise<readonly string[]> =>
      (await client.call(inquireProgram, 'status', { flags: 0 })).warnings;
    assert.deepEqual(await warnings(), []);
    const [warning = ''] = await eventually('it is named', async () => {
      const found = await warnings();
      return found.length > 0 && found;
    });
    for (const part of [
      ` ${mount} does not answer since 20`,
      `${at('disk')} for owner ${NOBODY} since 20`,
      `${at('missing')} for`,
    ]) {
      assert.ok(warning.includes(part), warning);
    }
    await eventually('it is logged', () =>
      daemon.log.includes(`does not answer a call of ${at('disk')} for owner ${NOBODY}`),
    );
    const lockctl = async (...words: string[]): Promise<Finished> =>
      daemon.lab.run(join(checkout, 'bin/virt-lockctl'), words);
    const [status, list, metrics] = [
      await lockctl('status', '--json'),
      await lockctl('list', '--json'),
      await lockctl('metrics'),
    ];
    const { storages } = JSON.parse(status.stdout) as { storages: HungStorage[] };
    const [hung] = storages.filter(({ name }) => name === mount);
    assert.deepEqual(
      hung?.calls.map(({ path, owner }) => [path, owner]),
      [
        [at('disk'), NOBODY],
        [at('missing'), NOBODY + 7],
      ],
    );
    for (const time of [hung.hangsSince, ...hung.calls.map(({ since }) => since)]) assert.match(time ?? '', /^20.*Z$/);
    const locks = JSON.parse(list.stdout) as { path: string; file: string; hangsSince?: string }[];
    assert.deepEqual(
      locks.map(({ path, hangsSince }) => [path, hangsSince]),
      [
        [at('held'), hung.hangsSince],
        [`${daemon.lab.directory}/healthy`, undefined],
      ],
    );
    assert.ok(metrics.stdout.includes(`\nvirtlockd_hanging_calls{path="${mount}"} 2\n`), metrics.stdout);
    const seconds = /^virtlockd_hanging_seconds\{path="[^"]*"\} (\S+)$/m.exec(metrics.stdout)?.[1];
    assert.ok(Number(seconds) >= 5, metrics.stdout);
    await storage.letGo();
    await Promise.all([first.answer, second.answer]);
    assert.deepEqual(await warnings(), []);
    await eventually('its answer is logged', () => daemon.log.includes('answers again'));
    client.close();
  });

  it('does not keep the daemon from its end', async () => {
    await begin({ hasOwnLocks: true });
    const guest = await connect('guest');
    await guest.must(lock.acquire('', at('lease'), autocreate));
    const local = `${daemon.lab.directory}/healthy`;
    await guest.must(lock.acquire('', local, autocreate));
    await storage.hang('unlink');
    const before = performance.now();
    daemon.process.kill('SIGTERM');
    await eventually('the healthy lease is released', () => !existsSync(daemon.lab.outside(local)));
    const { code } = await daemon.exited;
    assert.equal(code, 0);
    assert.ok(performance.now() - before < 8000);
    assert.match(daemon.log, /lease' is left to its storage helper/);
    await storage.letGo();
    await eventually('the helper ends', () => helpers().length === 0);
  });

  it('loses locks with its helper alone: that is said, and they are taken again', async () => {
    await begin({ hasOwnLocks: true, configuration: UNASKED });
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await guest.must(lock.acquire('', at('lease'), autocreate));
    const [pid = 0] = helpers();
    const client = await Client.connect(daemon.adminSocket);
    const warnings = async (): Promise<readonly string[]> =>
      (await client.call(inquireProgram, 'status', { flags: 0 })).warnings;
    await storage.hang('open');
    process.kill(pid, 'SIGKILL');
    const text = "lease' is lost with its storage helper, owners 4200000 (guest): it is asked for again";
    await eventually('it is said', () => daemon.log.includes(text));
    assert.ok((await warnings()).some((warning) => warning.includes(text)));
    await assertServed();
    await storage.letGo();
    await eventually('it is taken again', () => daemon.log.includes("lease' was taken again"));
    assert.deepEqual(await warnings(), []);
    client.close();
    assert.equal((await rival.ask(lock.acquire('', at('lease'), autocreate)))?.code, BUSY);
    await reexecute(daemon);
    await guest.must(lock.release('', at('lease')));
    await rival.must(lock.acquire('', at('lease'), autocreate));
  });

  /** Waits for the lock of a file, by its process or by its open file, and keeps it. */
  async function rivalFor(path: string, command: number): Promise<{ rival: Running; locked: () => Promise<unknown> }> {
    const script = `import fcntl, os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
print('opened', flush=True)
fcntl.fcntl(fd, int(sys.argv[2]), struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 1, 0))
print('locked', flush=True)
time.sleep(100)`;
    const rival = daemon.lab.spawn('/usr/bin/python3', ['-c', script, path, String(command)]);
    await eventually('it is opened', () => rival.output.includes('opened'));
    return { rival, locked: async () => eventually('it has the lock', () => rival.output.includes('locked')) };
  }

  /** An owner that has a connection itself, and the lock of the disk. */
  async function ownerOfDisk(): Promise<Actor> {
    const owner = Actor.start();
    await owner.open('own', daemon.socket);
    await owner.send('own', encode({ ...lock.register({ pid: owner.pid, name: 'guest' }), serial: 1 }));
    await owner.send('own', encode({ ...lock.acquire('', at('disk')), serial: 2 }));
    const asker = await connect('asker', NOBODY + 2);
    await eventually('it has the lock', async () => (await asker.ask(lock.release('', at('disk'))))?.code === 1);
    return owner;
  }

  /** The helper is killed while another process waits for the lock of an owner. */
  async function loseTo(command: number, isRestarted = false): Promise<{ owner: Actor; rival: Running }> {
    await begin();
    const owner = await ownerOfDisk();
    const { rival, locked } = await rivalFor(at('disk'), command);
    await storage.hang('open', 'lookup');
    process.kill(helpers()[0] ?? 0, 'SIGKILL');
    await locked();
    if (isRestarted) await reexecute(daemon);
    await storage.letGo();
    return { owner, rival };
  }

  const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}/fd/0`);

  for (const isRestarted of [false, true]) {
    const when = isRestarted ? 'which the next program asks for' : 'and that another process has by then';
    it(`ends the owners of a lock that was lost with its helper, ${when}`, async () => {
      const { owner, rival } = await loseTo(F_SETLKW, isRestarted);
      await eventually('it is said', () =>
        daemon.log.includes(`disk' was lost, and process ${rival.pid} has it: its owners are ended`),
      );
      await eventually('the owner is ended', () => !isAlive(owner.pid));
      await owner.stop();
      await rival.stop('SIGKILL');
      const next = await connect('next', NOBODY + 3);
      await eventually('its lock is free', async () => (await next.ask(lock.acquire('', at('disk')))) === undefined);
    });
  }

  it('ends nobody while the kernel names no process that has a lost lock', async () => {
    const { owner, rival } = await loseTo(F_OFD_SETLKW);
    await eventually('it is said', () =>
      daemon.log.includes("disk' is not to be had again yet: another process or host"),
    );
    await rival.stop('SIGKILL');
    await eventually('it is taken again', () => daemon.log.includes("disk' was taken again"));
    assert.ok(isAlive(owner.pid));
    assert.doesNotMatch(daemon.log, /its owners are ended/);
    await owner.stop();
  });

  it('has a lock taken again by the helper that answers, though another one was asked', async () => {
    await begin({ hasOwnLocks: true });
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await guest.must(lock.acquire('', at('disk')));
    const killHelper = (): void => {
      process.kill(helpers()[0] ?? 0, 'SIGKILL');
    };
    await storage.fail('open', EIO);
    killHelper();
    await eventually('the next helper has answered', () => daemon.log.includes('is not to be had again yet'));
    const before = storage.requests.length;
    await storage.hang('open');
    await storage.asked('open', before);
    killHelper();
    // A process that waits for storage ends when that answers.
    await storage.letGo();
    await eventually('its end is noticed', () => daemon.log.split('has ended').length === 3);
    await eventually('it is taken again', () => daemon.log.includes("disk' was taken again"));
    await guest.must(lock.release('', at('disk')));
    await rival.must(lock.acquire('', at('disk')));
  });

  it('has its locks in helpers again when a C daemon was to take over and is refused then', async function () {
    skipIf(this, missingDaemon('9.0.0'));
    await begin({ hasOwnLocks: true, from: 'displaced' });
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await guest.must(lock.acquire('', at('disk'), shared));
    daemon.lab.write('/etc/libvirt/virtlockd.conf', 'log_outputs = "1:file:/missing/log"\n');
    daemon.lab.install(C_PROGRAM);
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('it is refused', () => daemon.log.includes('Unable to re-execute, service goes on'));
    assert.match(daemon.log, /service goes on: .*missing/);
    const [helper = 0] = helpers();
    await eventually('the daemon has no file there', () => namesOpenIn(daemon.pid, mount).length === 0);
    assert.deepEqual(namesOpenIn(helper, mount), ['disk', 'lease']);
    for (const name of ['lease', 'disk']) assert.equal((await rival.ask(lock.acquire('', at(name))))?.code, BUSY);
    await storage.hang('flush', 'setlk', 'getattr');
    await assertServed();
    await storage.letGo();
    for (const name of ['lease', 'disk']) await guest.must(lock.release('', at(name)));
    assert.deepEqual(namesOpenIn(helper, mount), []);
    await rival.must(lock.acquire('', at('lease'), autocreate));
    await rival.must(lock.acquire('', at('disk')));
  });

  it('is handed to a C daemon with the locks there, but not while it does not answer', async function () {
    skipIf(this, missingDaemon('9.0.0'));
    await begin({ from: 'displaced' });
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await guest.must(lock.acquire('', at('lease'), autocreate));
    await guest.must(lock.acquire('', at('disk'), shared));
    daemon.lab.install(C_PROGRAM);
    const before = storage.requests.length;
    await storage.hang('lookup');
    const waiting = asking(rival, lock.acquire('', at('missing')));
    await storage.asked('lookup', before);
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('it is refused', () => daemon.log.includes('Unable to re-execute, service goes on'));
    assert.match(daemon.log, /service goes on: the file system at \S+ does not answer/);
    await assertServed();
    await storage.letGo();
    assert.notEqual(await waiting.answer, undefined);
    await reexecute(daemon);
    await eventually('the helper ends', () => helpers().length === 0);
    assert.equal((await rival.ask(lock.acquire('', at('lease'), autocreate)))?.code, BUSY);
    await guest.must(lock.release('', at('lease')));
    await rival.must(lock.acquire('', at('lease'), autocreate));
    await rival.must(lock.acquire('', at('other'), autocreate | shared));
  });

  it('may be a block device: its node is opened by a helper', async () => {
    await begin();
    const node = join(daemon.lab.directory, 'node');
    await daemon.lab.run('/bin/mknod', [node, 'b', '7', '0']);
    const [guest, rival] = [await connect('guest'), await connect('rival', NOBODY + 2)];
    await guest.must(lock.acquire('', node));
    assert.equal((await rival.ask(lock.acquire('', node)))?.code, BUSY);
    assert.deepEqual(
      namesOpenIn(daemon.pid, daemon.lab.directory).filter((name) => name === 'node'),
      [],
    );
    await reexecute(daemon);
    const { rival: other, locked } = await rivalFor(node, F_OFD_SETLKW);
    const client = await Client.connect(daemon.adminSocket);
    const { storages } = await client.call(inquireProgram, 'storages', { flags: 0 });
    client.close();
    assert.deepEqual(
      storages.map(({ name }) => name.replace(/\d+$/, 'N')),
      ['device nodes, group N'],
    );
    for (const { pid } of storages) process.kill(pid, 'SIGKILL');
    await locked();
    await eventually('it is asked for', () => daemon.log.includes("node' is not to be had again yet"));
    await other.stop('SIGKILL');
    await eventually('it is taken again', () => daemon.log.includes("node' was taken again"));
    await guest.must(lock.release('', node));
    await rival.must(lock.acquire('', node));
  });

  it('is asked by no call for a file elsewhere', async () => {
    await begin();
    await storage.hang('lookup', 'getattr', 'open');
    await assertServed();
    assert.deepEqual(helpers(), []);
  });
});

/** The names of the files in a directory of the lab that a process has open. Outside of the lab that has a longer path. */
function namesOpenIn(pid: number, directory: string): string[] {
  const names = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      const [, name] = readlinkSync(`/proc/${pid}/fd/${fd}`).split(`${directory}/`);
      return name === undefined ? [] : [name];
    } catch {
      return [];
    }
  });
  return names.sort();
}

/** Whether a process has a child that is none of these. */
function hasOtherChild(pid: number, known: readonly number[]): boolean {
  return childrenOf(pid).some((child) => !known.includes(child));
}
