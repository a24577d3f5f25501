import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { MAX_PASSED, posix } from '../../../src/posix/posix.ts';
import { LockKinds } from '../../../src/restart/lock-kinds.ts';
import { Survival } from '../../../src/restart/survival.ts';
import type { StoreStatus } from '../../../src/store/manager.ts';
import { StoredKind, storedName } from '../../../src/store/names.ts';
import { makeDaemon } from '../support/daemon.ts';
import { temporaryDirectory } from '../support/locks.ts';

const identity = {
  process: { boot: '00010203-0405-0607-0809-0a0b0c0d0e0f', start: 7 },
  pid: 1,
  restarts: 0,
  deaths: 0,
  started: 0,
};
const STORE: StoreStatus = { max: 10, count: 0, ended: 0 };
const EBADF = -9;
const NO_STORE: StoreStatus = { max: 0, count: 0, ended: 0 };

describe('what outlives the daemon', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  /** Messages to the manager. */
  let sent: string[];
  let survival: Survival;
  let daemon: Daemon;
  let answer: (status: StoreStatus | null) => Promise<void>;
  /** The manager cannot be asked. */
  let fails: boolean;

  beforeEach(() => {
    directory = temporaryDirectory();
    sent = [];
    fails = false;
    let resolve: (status: StoreStatus | null) => void = () => undefined;
    survival = new Survival({
      socket: '/nowhere',
      promised: undefined,
      identity,
      link: {
        connect: () => 1_000_000,
        send: (_socket, text) => {
          sent.push(text);
          return 0;
        },
        close: () => undefined,
        setTimeout: () => undefined,
      },
      ask: async () =>
        new Promise((given, refused) => {
          resolve = given;
          if (fails) refused(new Error('EMFILE'));
        }),
    });
    daemon = makeDaemon(undefined, survival);
    const kinds = new LockKinds(daemon.lockspaces);
    survival.attach({
      daemon,
      isBusy: () => false,
      onStore: () => void kinds.turnToOfd(),
      onNoStore: async () => kinds.leaveOfd(),
      onMortal: () => undefined,
    });
    answer = async (status) => {
      resolve(status);
      await new Promise((next) => setImmediate(next));
    };
  });
  afterEach(() => {
    for (const resource of [...daemon.lockspaces.resources()]) daemon.lockspaces.endResource(resource);
    directory.remove();
  });

  const acquire = (name: string): void => {
    const { lockspaces } = daemon;
    const owner = { pid: 4_194_305, id: 1, name: 'vm', uuid: identity.process.boot };
    lockspaces.acquire(lockspaces.default, join(directory.path, name), modeOf(2), { owner, since: 1, client: 1 });
  };
  const kinds = (): string[] => Array.from(daemon.lockspaces.resources(), ({ file }) => file.lockKind);
  /** How many files the first message in the queue has. */
  const countInFlight = (): number => posix.peekFiles(survival.queue ?? -1, true, new Uint32Array(MAX_PASSED), null);

  it('is all that comes before the manager has answered, but nobody relies on it', async () => {
    survival.look(true);
    acquire('early');
    assert.deepEqual(kinds(), ['ofd']);
    assert.equal(countInFlight(), 1);
    assert(!survival.isActive);
    assert(!survival.everyLockWouldOutlive);
    assert.equal(survival.status.hasStore, undefined);
    await answer(STORE);
    assert(survival.isActive);
    assert(survival.everyLockWouldOutlive);
    assert.notEqual(survival.record, undefined);
    assert.equal(countInFlight(), 1);
  });

  it('is not said to be all before the locks that were left are looked at', async () => {
    survival.look(true);
    await answer(STORE);
    const { record = -1, names = [], queue } = survival;
    survival.goOn(record, names, queue);
    assert(!survival.everyLockWouldOutlive);
    survival.takeoverFinished();
    assert(survival.everyLockWouldOutlive);
  });

  it('is nothing when the manager has no store', async () => {
    survival.look(true);
    acquire('early');
    const isKnown = survival.answer();
    await answer(NO_STORE);
    await isKnown;
    assert(!survival.isActive);
    assert.equal(survival.record, undefined);
    assert.equal(survival.status.hasStore, false);
    assert.deepEqual(kinds(), ['posix']);
    assert.equal(survival.queue, undefined);
    assert.equal(sent.filter((text) => /^FDSTOREREMOVE=1\nFDNAME=[QR]/.test(text)).length, 2);
    acquire('late');
    assert.deepEqual(kinds(), ['posix', 'posix']);
  });

  it('is nothing when the manager cannot be asked for want of a descriptor', async () => {
    fails = true;
    survival.look(true);
    acquire('early');
    await survival.answer();
    assert(!survival.isActive);
    assert.deepEqual(kinds(), ['posix']);
  });

  it('is nothing when the manager cannot be asked', async () => {
    survival.look(true);
    acquire('early');
    const isKnown = survival.answer();
    await answer(null);
    await isKnown;
    assert(!survival.isActive);
    assert.equal(survival.record, undefined);
    assert.equal(survival.status.hasStore, undefined);
    assert.deepEqual(kinds(), ['posix']);
  });

  it('is nothing before it is known that there is a store, if something was held before', async () => {
    survival.look();
    acquire('early');
    assert.deepEqual(kinds(), ['posix']);
    await answer(STORE);
    assert(survival.isActive);
    assert.deepEqual(kinds(), ['ofd']);
  });

  it('does not begin to be kept while a program takes over that knows nothing of it', async () => {
    survival.look();
    assert.equal(await survival.emptyForOther(), undefined);
    await answer(STORE);
    assert(!survival.isActive);
    survival.refill();
    assert(survival.isActive);
  });

  it('is stored again when the record of the former program cannot be used, by names that the manager has not got', () => {
    const names = [storedName(StoredKind.RECORD, 0), storedName(StoredKind.QUEUE, 41), storedName(StoredKind.FILE, 42)];
    acquire('held');
    const memory = posix.createMemory(4096);
    const queue = posix.createQueue();
    survival.goOn(memory, names, queue);
    for (const fd of [memory, queue]) assert.equal(posix.fstatInode(fd), EBADF);
    assert.deepEqual(sent, [
      'FDSTOREREMOVE=1\nFDNAME=R0',
      'FDSTOREREMOVE=1\nFDNAME=Q15',
      'FDSTORE=1\nFDPOLL=0\nFDNAME=Q17',
      'FDSTORE=1\nFDPOLL=0\nFDNAME=R19',
    ]);
    assert.equal(countInFlight(), 1);
    assert(survival.isActive);
  });
});
