import assert from 'node:assert/strict';
import { linkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { NIL_UUID, unknownOwner } from '../../../src/lockspace/owner.ts';
import { inodeKey, lastStat, LockType, posix } from '../../../src/posix/posix.ts';
import { adoptState } from '../../../src/restart/adopt.ts';
import { captureState } from '../../../src/restart/capture.ts';
import { Confirmation, execDropsLocks } from '../../../src/restart/confirm.ts';
import { descriptorLocks } from '../../../src/proc/locks.ts';
import type { ResourceState } from '../../../src/lockspace/state.ts';
import { descriptorsOf, formatDocument } from '../../../src/restart/document.ts';
import { EMPTY_STATE } from '../../../src/restart/empty-state.ts';
import { parseDocument, parseJson } from '../../../src/restart/parse.ts';
import { makeDaemon } from '../support/daemon.ts';
import { until } from '../support/link.ts';
import { lockOf, OtherProcess, temporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';
import { World } from '../support/processes.ts';

const SHARED = 1;
const OWNER = 300;
const START = 600;
const own = { restarts: 0, started: 0 };

describe('whether locks that were taken over are there', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let world: World;
  let daemon: Daemon;
  let log: LogRecorder;
  let rounds: number;
  /** Rounds that are still to come when a round is over. */
  let planned: number;
  let other: OtherProcess | undefined;

  beforeEach(() => {
    directory = temporaryDirectory();
    world = new World();
    world.begin(OWNER, START);
    daemon = makeDaemon(world);
    log = new LogRecorder(at('log'));
    rounds = 0;
    planned = 0;
  });

  afterEach(async () => {
    for (const resource of [...daemon.lockspaces.resources()]) daemon.lockspaces.endResource(resource);
    await other?.end();
    other = undefined;
    log.stop();
    directory.remove();
  });

  const at = (name: string): string => path.join(directory.path, name);
  const held = (): string[] => [...daemon.lockspaces.resources()].map(({ name }) => path.basename(name)).sort();
  /** The log lines about locks, with names in place of paths. */
  const said = (): string[] => log.lines.map((line) => line.replaceAll(`${directory.path}/`, ''));

  /** Opens a file, which may be locked as well. */
  function open(name: string, kind?: 'READ' | 'WRITE'): number {
    const fd = posix.openInode(at(name), 2);
    if (kind !== undefined) posix.setlk(fd, LockType[kind], 0, 1);
    return fd;
  }

  /** A resource as a C daemon describes it. */
  function foreign(name: string, fd: number, flags = 0, owner = OWNER): ResourceState {
    return { name: at(name), path: at(name), fd, lockHeld: true, flags, owners: [owner] };
  }

  /** As this daemon describes it. */
  function ours(name: string, fd: number, inode: string, flags = 0): ResourceState {
    const hold = { id: 1, name: 'vm', uuid: NIL_UUID, since: 0, client: 0, start: START };
    return { ...foreign(name, fd, flags), 'x-holds': [hold], 'x-inode': inode };
  }

  function keyOf(name: string): string {
    posix.statInode(at(name));
    return inodeKey(lastStat());
  }

  function adopt(...resources: ResourceState[]): void {
    adoptState(daemon, { document: parseDocument({ ...EMPTY_STATE, defaultLockspace: { resources } }), late: null });
  }

  /** Checks all locks once, and unknown ones whenever that is due. */
  async function confirm(): Promise<void> {
    const again = (callback: () => void, milliseconds: number): void => {
      planned++;
      world.setTimeout(() => {
        rounds++;
        callback();
      }, milliseconds);
    };
    await new Confirmation(daemon, again).run();
  }

  function acquire(name: string, flags = 0): void {
    const hold = { owner: unknownOwner(5_000_001), since: 0, client: 0 };
    daemon.lockspaces.acquire(daemon.lockspaces.default, at(name), modeOf(flags), hold);
  }

  it('says nothing of one that the kernel has on record, by whichever descriptor', async () => {
    for (const name of ['a', 'b']) writeFileSync(at(name), '');
    linkSync(at('b'), at('also b'));
    // The lock belongs to the second descriptor's open file.
    const [shared, exclusive] = [open('b'), open('also b', 'WRITE')];
    adopt(foreign('a', open('a', 'WRITE')), foreign('b', shared, SHARED), foreign('also b', exclusive));
    await confirm();
    assert.deepEqual(said(), []);
    assert.equal(lockOf(at('b')), 'WRITE');
  });

  it("says nothing of one that is the open file's, and takes again one that is not any more", async () => {
    for (const name of ['a', 'b', 'c']) writeFileSync(at(name), '');
    const [exclusive, degraded, unlocked] = [open('a'), open('b'), open('c')];
    posix.setOfdLock(exclusive, LockType.WRITE, 0, 1);
    posix.setOfdLock(degraded, LockType.READ, 0, 1);
    adopt(
      { ...foreign('a', exclusive), 'x-lock': 'ofd' },
      { ...foreign('b', degraded), 'x-lock': 'ofd-degraded' },
      { ...foreign('c', unlocked), 'x-lock': 'ofd' },
    );
    await confirm();
    assert.deepEqual(said(), ["warning: The lock of resource 'c' had been lost and was taken again"]);
    assert.deepEqual(
      [exclusive, degraded, unlocked].map((fd) =>
        descriptorLocks(process.pid, fd).map(({ kind, access }) => kind + access),
      ),
      [['OFDLCKWRITE'], ['OFDLCKREAD'], ['OFDLCKWRITE']],
    );
  });

  it('does not take one for held that is of the other kind', async () => {
    writeFileSync(at('a'), '');
    // As after a defect: the lock on record is not the one that is to be released.
    adopt({ ...foreign('a', open('a', 'READ'), SHARED), 'x-lock': 'ofd' });
    await confirm();
    assert.deepEqual(said(), ["warning: The lock of resource 'a' had been lost and was taken again"]);
  });

  it('takes again one that the kernel has dropped, and says so', async () => {
    for (const name of ['a', 'b']) writeFileSync(at(name), '');
    adopt(foreign('a', open('a')), foreign('b', open('b', 'WRITE'), SHARED));
    await confirm();
    assert.deepEqual([lockOf(at('a')), lockOf(at('b'))], ['WRITE', 'READ']);
    const again = (name: string): string => `warning: The lock of resource '${name}' had been lost and was taken again`;
    assert.deepEqual(said().sort(), [again('a'), again('b')]);
  });

  it('ends the owners of one that another process has, and lets nobody in beside them', async () => {
    writeFileSync(at('a'), '');
    const file = open('a');
    const key = keyOf('a');
    other = await OtherProcess.lock(at('a'), 'READ');
    adopt(ours('a', file, key));
    assert.deepEqual(world.signals, []);
    await confirm();
    assert.deepEqual(world.signals, [`SIGTERM ${OWNER} at 0`]);
    const text = `error: The lock of resource 'a' was lost, and process ${other.pid} has it: its owners are ended`;
    assert.deepEqual(said(), [text]);
    world.end(OWNER);
    await until('it is released', () => held().length === 0);
  });

  it('grants a shared one that was lost to no newcomer, by no name', async () => {
    writeFileSync(at('a'), '');
    const file = open('a');
    other = await OtherProcess.lock(at('a'), 'WRITE');
    adopt(ours('a', file, keyOf('a'), SHARED));
    await confirm();
    linkSync(at('a'), at('alias'));
    world.pass(5000);
    for (const name of ['a', 'alias']) {
      assert.throws(() => {
        acquire(name, SHARED);
      }, /is locked/);
    }
    const [found] = [...daemon.lockspaces.resources()];
    assert.deepEqual([found?.holds.length, found?.file.locked], [1, false]);
  });

  it('keeps one that is taken by nobody whom the kernel names, says so once, and asks ever more seldom', async () => {
    for (const name of ['a', 'b']) writeFileSync(at(name), '');
    other = await OtherProcess.lock(at('a'), 'WRITE', 'file');
    adopt(foreign('a', open('a')));
    await confirm();
    const reason = 'somebody has it, and the kernel names no other process';
    const unknown = `warning: The lock of resource 'a' cannot be confirmed, and stays held: ${reason}`;
    for (const [milliseconds, wanted] of [
      [999, 0],
      [1, 1],
      [1999, 1],
      [1, 2],
      [3999, 2],
      [1, 3],
    ] as const) {
      world.pass(milliseconds);
      assert.equal(rounds, wanted);
      await until('the round is over', () => planned === wanted + 1);
    }
    assert.deepEqual([said(), held(), world.signals], [[unknown], ['a'], []]);
    assert.throws(() => {
      acquire('a');
    }, /is locked/);
    await other.end();
    other = undefined;
    world.pass(8000);
    await until('it is taken', () => lockOf(at('a')) === 'WRITE');
    assert.match(said()[1] ?? '', /'a' had been lost and was taken again/);
    world.pass(3_600_000);
    assert.equal(rounds, 4);
  });

  it('asks no more for one that is released, whose descriptor is another file by then', async () => {
    writeFileSync(at('a'), '');
    writeFileSync(at('b'), '');
    other = await OtherProcess.lock(at('a'), 'WRITE', 'file');
    const fd = open('a');
    adopt(foreign('a', fd));
    await confirm();
    daemon.lockspaces.release(daemon.lockspaces.default, at('a'), OWNER);
    assert.equal(open('b'), fd);
    world.pass(1000);
    await until('the round is over', () => true);
    assert.equal(lockOf(at('b')), undefined);
    posix.close(fd);
  });

  it('keeps the shared one where C had granted an exclusive one beside it, which another process has', async () => {
    writeFileSync(at('a'), '');
    linkSync(at('a'), at('b'));
    const [shared, exclusive] = [open('a'), open('b')];
    other = await OtherProcess.lock(at('a'), 'READ');
    adopt(foreign('a', shared, SHARED, 400), ours('b', exclusive, keyOf('a')));
    await confirm();
    assert.equal(lockOf(at('a')), 'READ');
    assert.deepEqual(world.signals, [`SIGTERM ${OWNER} at 0`]);
    world.end(OWNER);
    await until('the exclusive one is released', () => held().length === 1);
    assert.equal(lockOf(at('a')), 'READ');
  });

  it('keeps what has a descriptor that is not open, and takes the lock again by its path', async () => {
    for (const name of ['a', 'b', 'c']) writeFileSync(at(name), '');
    const kept = open('c', 'WRITE');
    const closed = open('a');
    posix.close(closed);
    adopt(foreign('a', closed), ours('b', closed, keyOf('b')), ours('c', kept, keyOf('c')));
    assert.deepEqual(held(), ['a', 'b', 'c']);
    await confirm();
    assert.deepEqual(
      ['a', 'b', 'c'].map((name) => lockOf(at(name))),
      ['WRITE', 'WRITE', 'WRITE'],
    );
    assert.deepEqual(world.signals, []);
    assert.deepEqual(
      said().map((line) => line.slice(0, line.indexOf(':'))),
      ['error', 'error', 'warning', 'warning'],
    );
  });

  it('leaves a descriptor alone that is another file than on record', async () => {
    for (const name of ['a', 'stranger']) writeFileSync(at(name), '');
    const stranger = open('stranger');
    adopt(ours('a', stranger, keyOf('a')));
    await confirm();
    assert.equal(lockOf(at('a')), 'WRITE');
    assert.equal(lockOf(at('stranger')), undefined);
    daemon.lockspaces.release(daemon.lockspaces.default, at('a'), OWNER);
    assert.equal(posix.fstatInode(stranger), 0);
    assert.equal(lockOf(at('a')), undefined);
    posix.close(stranger);
  });

  it('takes no socket and no epoll for a file, whatever a document of C says', () => {
    const epoll = [...descriptorsOfKind('[eventpoll]')][0] ?? -1;
    assert.ok(epoll >= 0);
    writeFileSync(at('a'), '');
    adopt(foreign('a', epoll));
    assert.equal([...daemon.lockspaces.resources()][0]?.file.fd, -1);
  });

  it('keeps what has no descriptor and is gone from its path, over another restart, and shares it with nobody', async () => {
    writeFileSync(at('a'), '');
    writeFileSync(at('new'), '');
    const closed = open('a');
    posix.close(closed);
    const resource = ours('a', closed, keyOf('a'), SHARED);
    renameSync(at('new'), at('a'));
    adopt(resource);
    await confirm();
    assert.match(said().at(-1) ?? '', /'a' cannot be confirmed, and stays held: it cannot be opened at its path/);
    assert.throws(() => {
      acquire('a', SHARED);
    }, /is locked/);
    assert.deepEqual([...descriptorsOf(captureState(daemon, own))], []);
    const again = parseDocument(parseJson(formatDocument(captureState(daemon, own))));
    const [state] = [...([...again.lockspaces][0]?.resources ?? [])];
    assert.deepEqual([state?.fd, state?.lockHeld, state?.['x-inode']], [-1, false, resource['x-inode']]);
    // The operator puts it back.
    rmSync(at('a'));
    daemon.lockspaces.release(daemon.lockspaces.default, at('a'), OWNER);
    assert.deepEqual(held(), []);
  });

  it('asks at once for what an older kernel drops at exec', async () => {
    for (const name of ['a', 'b', 'c']) writeFileSync(at(name), '');
    const states = [ours('a', open('a'), keyOf('a')), ours('b', open('b', 'WRITE'), keyOf('b'))];
    other = await OtherProcess.lock(at('c'), 'WRITE');
    adopt(...states, foreign('c', open('c')));
    new Confirmation(daemon).runAfterDrop();
    assert.equal(lockOf(at('a')), 'WRITE');
    assert.match(said().join('\n'), /^warning: .*'a' had been lost.*\nerror: .*'c' was lost/);
    assert.equal(said().length, 2);
  });

  it('knows which kernels those are', () => {
    assert.deepEqual(
      ['4.19.0', '5.4.0-12-generic', '5.10.0-8-amd64', '5.11.0', '5.15', '6.1.0-18', '10.0'].map(execDropsLocks),
      [true, true, true, false, false, false, false],
    );
  });
});

function* descriptorsOfKind(kind: string): Generator<number> {
  const { readdirSync, readlinkSync } = process.getBuiltinModule('node:fs');
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`).endsWith(kind)) yield Number(fd);
    } catch {
      // The one of the listing itself.
    }
  }
}
