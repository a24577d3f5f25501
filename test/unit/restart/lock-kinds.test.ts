/** Locks of files that are kept beyond the daemon's life: how they come and go, and how they become locks of the other kind. */
import assert from 'node:assert/strict';
import { existsSync, linkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { Budget } from '../../../src/lockspace/budget.ts';
import type { FileKeeper } from '../../../src/lockspace/file-keeper.ts';
import { adoptFile, type HeldFile, type KeptLock } from '../../../src/lockspace/files.ts';
import { isLocalFile } from '../../../src/lockspace/local-files.ts';
import { Lockspaces } from '../../../src/lockspace/lockspaces.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { unknownOwner, type Hold } from '../../../src/lockspace/owner.ts';
import { resourceState } from '../../../src/lockspace/state.ts';
import { LockType, posix } from '../../../src/posix/posix.ts';
import { descriptorLocks } from '../../../src/proc/locks.ts';
import { LockKinds } from '../../../src/restart/lock-kinds.ts';
import { OtherProcess, Rival, temporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';

const SHARED = 1;
const AUTOCREATE = 2;
const OWNER = 100;
const hold = (): Hold => ({ owner: unknownOwner(OWNER), since: 0, client: 0 });

describe('files that are kept beyond the life of the daemon', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let log: LogRecorder;
  let lockspaces: Lockspaces;
  let kinds: LockKinds;
  let isKeeping: boolean;
  let told: string[];
  /** What is to be done later. */
  let timers: (() => void)[];
  let other: OtherProcess | undefined;

  const at = (name: string): string => path.join(directory.path, name);
  /** What the kernel has on record for a descriptor. */
  const record = (fd: number): string => {
    const locks = descriptorLocks(process.pid, fd).map(({ kind, access }) => `${kind} ${access}`);
    return posix.fstatInode(fd) < 0 ? 'closed' : (locks[0] ?? 'free');
  };
  const fileOf = (name: string): HeldFile => {
    const file = lockspaces.default.resources.get(at(name))?.file;
    assert.ok(file !== undefined);
    return file;
  };
  const locks = (...names: string[]): string[] => names.map((name) => record(fileOf(name).fd));
  const acquire = (name: string, flags = 0): void => {
    lockspaces.acquire(lockspaces.default, at(name), modeOf(flags), hold());
  };
  const release = (name: string): void => {
    lockspaces.release(lockspaces.default, at(name), OWNER);
  };
  const said = (): string[] => log.lines.map((line) => line.replaceAll(`${directory.path}/`, ''));
  const runTimers = (): void => {
    for (const run of timers.splice(0)) run();
  };

  /** A file as it is taken over, its lock of this type. */
  function adopt(name: string, flags: number, type: keyof typeof LockType, lock?: KeptLock): HeldFile {
    writeFileSync(at(name), '');
    const fd = posix.openInode(at(name), 2);
    assert.equal(posix[lock?.startsWith('ofd') === true ? 'setOfdLock' : 'setlk'](fd, LockType[type], 0, 1), 0);
    const file = adoptFile(fd, modeOf(flags).shared, undefined, lock);
    assert.ok(file !== null);
    lockspaces.restoreResource(lockspaces.default, at(name), at(name), modeOf(flags), file, [hold()]);
    return file;
  }

  beforeEach(() => {
    directory = temporaryDirectory();
    log = new LogRecorder(at('log'));
    isKeeping = true;
    told = [];
    timers = [];
    const tell =
      (what: string): FileKeeper['locked'] =>
      ({ fd }) => {
        told.push(`${what}: ${record(fd)}${existsSync(at('a')) ? ', a name' : ''}`);
      };
    const keeper: FileKeeper = {
      get isKeeping() {
        return isKeeping;
      },
      keeps: isLocalFile,
      locked: tell('locked'),
      kindChanged: tell('changed'),
      releasing: tell('releasing'),
      unlocked: tell('unlocked'),
      gone: tell('gone'),
    };
    lockspaces = new Lockspaces(dialectOf(12_008_000), new Budget(), keeper);
    kinds = new LockKinds(lockspaces, (callback) => timers.push(callback));
  });

  afterEach(async () => {
    for (const resource of [...lockspaces.resources()]) lockspaces.endResource(resource);
    await other?.end();
    other = undefined;
    log.stop();
    directory.remove();
  });

  it('are told of in the order in which a lock comes and goes', () => {
    acquire('a', AUTOCREATE);
    release('a');
    assert.deepEqual(told, [
      'locked: OFDLCK WRITE, a name',
      'releasing: OFDLCK WRITE, a name',
      'unlocked: free',
      'gone: closed',
    ]);
  });

  it('are told of once, however many share them', () => {
    acquire('a', AUTOCREATE | SHARED);
    linkSync(at('a'), at('b'));
    acquire('a', SHARED);
    acquire('b', SHARED);
    for (const name of ['a', 'a', 'b']) release(name);
    assert.deepEqual(
      told.map((line) => line.split(':')[0]),
      ['locked', 'releasing', 'unlocked', 'gone'],
    );
  });

  it('are unlocked though a duplicate of their descriptor is elsewhere', () => {
    writeFileSync(at('a'), '');
    acquire('a');
    const duplicate = posix.duplicate(fileOf('a').fd);
    release('a');
    assert.equal(record(duplicate), 'free');
    posix.close(duplicate);
  });

  it('are locked as C locks files while nothing can be kept', () => {
    isKeeping = false;
    acquire('a', AUTOCREATE);
    assert.deepEqual(locks('a'), ['POSIX WRITE']);
    release('a');
    assert.deepEqual(told, ['locked: POSIX WRITE, a name', 'releasing: POSIX WRITE, a name', 'gone: closed']);
  });

  it('are no device nodes, which may hang', () => {
    lockspaces.acquire(lockspaces.default, '/dev/null', modeOf(0), hold());
    assert.equal(record(lockspaces.default.resources.get('/dev/null')?.file.fd ?? -1), 'POSIX WRITE');
  });

  it('get OFD locks when they were taken over, and lose the descriptors that POSIX locks need', async () => {
    const shared = adopt('a', SHARED, 'READ');
    shared.addDeferredFd(posix.duplicate(shared.fd));
    const [deferred = -1] = shared.deferredFds;
    adopt('b', 0, 'WRITE');
    const rivals = await Promise.all(['a', 'b'].map(async (name) => Rival.at(at(name))));
    await kinds.turnToOfd();
    assert.deepEqual(locks('a', 'b'), ['OFDLCK READ', 'OFDLCK WRITE']);
    assert.equal(record(deferred), 'closed');
    assert.equal(shared.deferredFds.size, 0);
    assert.deepEqual(told.sort(), ['changed: OFDLCK READ, a name', 'changed: OFDLCK WRITE, a name']);
    assert.deepEqual(await Promise.all(rivals.map(async (rival) => rival.end())), [false, false]);
    assert.deepEqual(said(), []);
  });

  it('stay as they are taken over while nothing can be kept', async () => {
    isKeeping = false;
    adopt('a', 0, 'WRITE');
    adopt('b', 0, 'WRITE', 'ofd');
    await kinds.turnToOfd();
    assert.deepEqual(locks('a', 'b'), ['POSIX WRITE', 'OFDLCK WRITE']);
  });

  it('have no lock to change when that was lost', async () => {
    const file = adopt('a', 0, 'UNLOCK');
    file.locked = false;
    await kinds.turnToOfd();
    assert.equal(await kinds.turnToPosix(), undefined);
    assert.deepEqual(locks('a'), ['free']);
  });

  it('have POSIX locks, those that come too, until a program that knows no others has not taken over', async () => {
    for (const [name, flags] of [
      ['a', AUTOCREATE],
      ['b', AUTOCREATE | SHARED],
    ] as const) {
      acquire(name, flags);
    }
    assert.equal(await kinds.turnToPosix(), undefined);
    acquire('c', AUTOCREATE);
    assert.deepEqual(locks('a', 'b', 'c'), ['POSIX WRITE', 'POSIX READ', 'POSIX WRITE']);
    assert.equal(resourceStateOf('a')['x-lock'], undefined);
    // One that begins to keep files then changes none.
    await kinds.turnToOfd();
    assert.deepEqual(locks('a', 'b', 'c'), ['POSIX WRITE', 'POSIX READ', 'POSIX WRITE']);
    await kinds.turnBack();
    assert.deepEqual(locks('a', 'b', 'c'), ['OFDLCK WRITE', 'OFDLCK READ', 'OFDLCK WRITE']);
    assert.equal(resourceStateOf('a')['x-lock'], 'ofd');
  });

  const resourceStateOf = (name: string): ReturnType<typeof resourceState> => {
    const resource = lockspaces.default.resources.get(at(name));
    assert.ok(resource !== undefined);
    return resourceState(resource, new Map());
  };

  for (const lock of ['ofd-degraded', 'posix-degraded'] as const) {
    it(`have no exclusive lock beside one that another process shares, and get it when that is gone: ${lock}`, async () => {
      acquire('b', AUTOCREATE);
      adopt('a', AUTOCREATE, 'READ', lock);
      other = await OtherProcess.lock(at('a'), 'READ');
      await kinds.turnToOfd();
      const said1 = `error: The lock of resource 'a' is only a shared one, because another process shares it: will try again until that process releases it`;
      assert.deepEqual(said(), [said1]);
      assert.equal(resourceStateOf('a')['x-lock'], 'ofd-degraded');
      runTimers();
      assert.equal(
        (await kinds.turnToPosix())?.replaceAll(`${directory.path}/`, ''),
        "the lock of resource 'a' should be exclusive, and another process shares it",
      );
      await kinds.turnBack();
      assert.deepEqual(locks('a', 'b'), ['OFDLCK READ', 'OFDLCK WRITE']);
      assert.equal(timers.length, 1, 'one timer for all');
      assert.deepEqual(said(), [said1], 'said once');
      await other.end();
      other = undefined;
      runTimers();
      assert.deepEqual(locks('a'), ['OFDLCK WRITE']);
      assert.deepEqual(said(), [said1, "warning: The lock of resource 'a' is exclusive again"]);
      assert.equal(resourceStateOf('a')['x-lock'], 'ofd');
      assert.equal(timers.length, 0);
    });
  }

  it('are not unlinked while another process shares what should be exclusive', async () => {
    adopt('a', AUTOCREATE, 'READ', 'ofd-degraded');
    other = await OtherProcess.lock(at('a'), 'READ');
    release('a');
    assert.ok(existsSync(at('a')));
  });
});
