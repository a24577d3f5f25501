import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { LockType, posix } from '../../../src/posix/posix.ts';
import { changeLock, findRival, type LockKind, setLock } from '../../../src/posix/record-lock.ts';
import { locksOf } from '../../../src/lab/observe.ts';
import { OtherProcess, Rival, type RivalOptions, temporaryDirectory } from '../support/locks.ts';

const KINDS = { posix: 'POSIX', ofd: 'OFDLCK' } as const;
const otherKind = (kind: LockKind): LockKind => (kind === 'ofd' ? 'posix' : 'ofd');

describe('the lock by which a resource is held', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let file: string;
  let fd: number;
  let inode: number | bigint;

  beforeEach(() => {
    directory = temporaryDirectory();
    file = path.join(directory.path, 'disk');
    writeFileSync(file, '');
    fd = posix.openInode(file, 2);
    inode = posix.statFields[2] ?? 0;
  });
  afterEach(() => {
    posix.close(fd);
    directory.remove();
  });

  /** The locks of this process on the file, as the kernel has them. */
  const onRecord = (): string[] =>
    locksOf(process.pid)
      .filter((row) => row.inode === inode)
      .map(({ kind, access, start, end }) => `${kind} ${access} ${start} ${end}`);

  for (const kind of ['posix', 'ofd'] as const) {
    it(`covers byte 0, as a ${kind} one`, () => {
      assert.equal(setLock(kind, fd, LockType.WRITE), 0);
      assert.deepEqual(onRecord(), [`${KINDS[kind]} WRITE 0 0`]);
      assert.equal(setLock(kind, fd, LockType.UNLOCK), 0);
      assert.deepEqual(onRecord(), []);
    });

    it(`keeps one of the other kind out, of this process too: ${kind}`, () => {
      assert.equal(setLock(kind, fd, LockType.WRITE), 0);
      assert.ok(setLock(otherKind(kind), fd, LockType.READ) < 0);
      assert.deepEqual(onRecord(), [`${KINDS[kind]} WRITE 0 0`]);
    });

    it(`knows what is in its way, which it is not itself: ${kind}`, async () => {
      const other = await OtherProcess.lock(file, 'READ');
      assert.equal(setLock(kind, fd, LockType.READ), 0);
      assert.equal(findRival(kind, fd, false), other.pid);
      assert.equal(findRival(kind, fd, true), -1);
      await other.end();
      assert.equal(findRival(kind, fd, false), -1);
    });

    for (const shared of [false, true]) {
      it(`becomes one of the other kind as it was: ${kind}, ${shared ? 'shared' : 'exclusive'}`, () => {
        const access = shared ? 'READ' : 'WRITE';
        setLock(kind, fd, LockType[access]);
        const to = otherKind(kind);
        assert.deepEqual(changeLock(fd, shared, to), { kind: to, degraded: false, errno: 0 });
        assert.deepEqual(onRecord(), [`${KINDS[to]} ${access} 0 0`]);
      });
    }

    it(`stays what it was where a step is refused: ${kind}`, async () => {
      // Nothing is locked, and another process has it: so the first step fails.
      const other = await OtherProcess.lock(file, 'WRITE');
      const { degraded, errno, ...rest } = changeLock(fd, false, otherKind(kind));
      assert.deepEqual(rest, { kind });
      assert.ok(errno > 0);
      // Not even the shared one that it had could be taken.
      assert.equal(degraded, false);
      assert.deepEqual(onRecord(), []);
      await other.end();
    });
  }

  it('is an OFD one after the close of another descriptor of the file, and with a duplicate after its own', () => {
    setLock('ofd', fd, LockType.WRITE);
    posix.close(posix.openInode(file, 2));
    assert.deepEqual(onRecord(), ['OFDLCK WRITE 0 0']);
    const duplicate = posix.duplicate(fd);
    posix.close(fd);
    assert.deepEqual(onRecord(), ['OFDLCK WRITE 0 0']);
    setLock('ofd', duplicate, LockType.UNLOCK);
    assert.deepEqual(onRecord(), []);
    fd = duplicate;
  });

  it('is what its changes say, whoever shares it: every sequence', () => {
    // Another open file of the process is as good as another process, as long as it is not closed.
    const rival = posix.openInode(file, 2);
    const step = fc.constantFrom('to ofd', 'to posix', 'mend', 'rival shares', 'rival goes');
    try {
      fc.assert(
        fc.property(fc.boolean(), fc.array(step, { maxLength: 12 }), (shared, steps) => {
          for (const kind of ['posix', 'ofd'] as const) setLock(kind, fd, LockType.UNLOCK);
          setLock('ofd', rival, LockType.UNLOCK);
          let kind: LockKind = 'posix';
          // As one is that a shared one came in beside: nothing else can come in from within this thread.
          let degraded = !shared;
          let isShared = false;
          setLock(kind, fd, LockType.READ);
          for (const one of steps) {
            if (one === 'rival goes') {
              setLock('ofd', rival, LockType.UNLOCK);
              isShared = false;
            } else if (one === 'rival shares') {
              const got: boolean = setLock('ofd', rival, LockType.READ) === 0;
              assert.equal(got, isShared || shared || degraded);
              isShared = got;
            } else if (one === 'mend') {
              if (degraded) degraded = setLock(kind, fd, LockType.WRITE) !== 0;
              assert.equal(degraded, !shared && isShared);
            } else {
              const to = one === 'to ofd' ? 'ofd' : 'posix';
              if (to === kind) continue;
              assert.deepEqual(changeLock(fd, shared, to), { kind: to, degraded: !shared && isShared, errno: 0 });
              kind = to;
              degraded = !shared && isShared;
            }
            assert.ok(setLock('ofd', rival, LockType.WRITE) < 0, 'it is free');
            const access: string = shared || degraded ? 'READ' : 'WRITE';
            const records = onRecord().filter((row) => !isShared || row !== 'OFDLCK READ 0 0');
            assert.deepEqual(
              records,
              isShared && kind === 'ofd' && access === 'READ' ? [] : [`${KINDS[kind]} ${access} 0 0`],
            );
          }
        }),
        { numRuns: 200 },
      );
    } finally {
      posix.close(rival);
    }
  });

  /** While a rival asks, changes the kind of the lock often, and returns how often it was degraded. */
  async function changeBeside(shared: boolean, options: RivalOptions): Promise<{ got: boolean; degraded: number }> {
    let kind: LockKind = 'posix';
    let degraded = 0;
    setLock(kind, fd, shared ? LockType.READ : LockType.WRITE);
    const rival = await Rival.at(file, options);
    for (let change = 0; change < 2000; change++) {
      const changed = changeLock(fd, shared, otherKind(kind));
      assert.equal(changed.errno, 0);
      ({ kind } = changed);
      if (changed.degraded) degraded++;
    }
    return { got: await rival.end(), degraded };
  }

  for (const owner of ['process', 'file'] as const) {
    for (const waits of [false, true]) {
      const how = `${owner === 'file' ? 'OFD lock' : 'POSIX lock'} that a process ${waits ? 'waits' : 'asks'} for`;
      for (const shared of [false, true]) {
        it(`is never free for an exclusive ${how} while it changes, ${shared ? 'shared' : 'exclusive'}`, async () => {
          assert.deepEqual(await changeBeside(shared, { owner, waits }), { got: false, degraded: 0 });
        });
      }

      it(`is degraded only beside a shared ${how}, and exclusive again when that is gone`, async () => {
        const { got, degraded } = await changeBeside(false, { owner, waits, access: 'READ' });
        if (!got) assert.equal(degraded, 0);
        const { kind } = changeLock(fd, false, 'ofd');
        assert.equal(kind, 'ofd');
        assert.deepEqual(onRecord(), ['OFDLCK WRITE 0 0']);
      });
    }
  }
});
