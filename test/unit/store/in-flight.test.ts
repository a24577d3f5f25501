import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { eventually } from '../../../src/lab/process.ts';
import { LockType, MAX_PASSED, posix } from '../../../src/posix/posix.ts';
import { openDescriptors } from '../../../src/proc/descriptors.ts';
import { descriptorLimits } from '../../../src/proc/limits.ts';
import { readLocks } from '../../../src/proc/locks.ts';
import { discardQueue, FilesInFlight, filesIn, type QueueLink } from '../../../src/store/in-flight.ts';
import { StoredKind, storedName, type StoredName } from '../../../src/store/names.ts';
import { temporaryDirectory } from '../support/locks.ts';

const EAGAIN = -11;
const ETOOMANYREFS = -109;

const nameOf = (serial: number): StoredName => storedName(StoredKind.FILE, serial);

class Death extends Error {}

/** A queue without a kernel. */
class Queue implements QueueLink {
  readonly messages: { readonly names: readonly number[]; readonly fds: readonly number[] }[] = [];
  /** How many messages fit in; one more if it is a replacement. */
  room = 6;
  /** The status that `send` returns. */
  status = 0;
  /** The process dies when it makes so many more calls. */
  callsToDeath = Infinity;
  sends = 0;
  private peeked = 0;
  private time = 0;
  private due: (() => void)[] = [];

  private live(): void {
    if (--this.callsToDeath < 0) throw new Death();
  }
  send(_queue: number, names: Uint32Array, fds: Int32Array, count: number, isReplacement: boolean): number {
    this.live();
    this.sends++;
    assert(count > 0 && count <= MAX_PASSED);
    if (this.status !== 0) return this.status;
    if (this.messages.length >= this.room + Number(isReplacement)) return EAGAIN;
    this.messages.push({ names: [...names.subarray(0, count)], fds: [...fds.subarray(0, count)] });
    return 0;
  }
  peek(_queue: number, isFirst: boolean, names: Uint32Array): number {
    if (isFirst) this.peeked = 0;
    const message = this.messages[this.peeked++];
    if (message === undefined) return EAGAIN;
    names.set(message.names);
    return message.names.length;
  }
  pop(): number {
    this.live();
    return this.messages.shift() === undefined ? EAGAIN : 0;
  }
  now(): number {
    return (this.time += 0.01);
  }
  setTimeout(callback: () => void): void {
    this.due.push(callback);
  }
  /** Runs the timers that are due. */
  pass(): void {
    this.time += 10_000;
    for (const callback of this.due.splice(0)) callback();
  }
  forgetTimers(): void {
    this.due.length = 0;
  }
  /** What the next process would find. */
  get found(): Map<number, number> {
    return new Map(this.messages.flatMap(({ names, fds }) => names.map((name, index) => [name, fds[index] ?? -1])));
  }
  get entries(): number {
    return this.messages.reduce((sum, { names }) => sum + names.length, 0);
  }
}

describe('the bookkeeping of files in flight', () => {
  const make = (): { queue: Queue; files: FilesInFlight } => {
    const queue = new Queue();
    queue.room = 500;
    return { queue, files: new FilesInFlight(7, [], queue) };
  };

  it('removes a file soon after it is dropped, and keeps those in front of it', () => {
    const { queue, files } = make();
    for (const serial of [1, 2, 3]) files.keep(nameOf(serial), 10 + serial);
    files.drop(nameOf(3));
    queue.pass();
    assert.deepEqual(
      queue.messages.map(({ names }) => names),
      [[nameOf(1), nameOf(2)]],
    );
    assert(files.has(nameOf(1)));
    assert(!files.has(nameOf(3)));
  });

  it('moves nothing when the dropped files are at the head', () => {
    const { queue, files } = make();
    for (const serial of [1, 2, 3]) files.keep(nameOf(serial), 10 + serial);
    files.drop(nameOf(1));
    files.drop(nameOf(2));
    queue.pass();
    assert.deepEqual(
      queue.messages.map(({ names }) => names),
      [[nameOf(3)]],
    );
    assert.equal(queue.sends, 3);
  });

  it('merges messages when there are many, also when the queue is full', () => {
    for (const room of [500, 20]) {
      const { queue, files } = make();
      queue.room = room;
      for (let serial = 0; serial < 2000; serial++) files.keep(nameOf(serial), serial);
      assert.equal(files.unsentCount, 0);
      queue.pass();
      assert(queue.messages.length <= 64 + 16, String(queue.messages.length));
      assert.equal(queue.found.size, 2000);
    }
  });

  it('keeps a file that the kernel does not take, and sends it later', () => {
    const { queue, files } = make();
    let sent = 0;
    files.onSent = () => sent++;
    queue.status = ETOOMANYREFS;
    files.keep(nameOf(1), 11);
    assert.equal(files.unsentCount, 1);
    assert(!files.has(nameOf(1)));
    queue.pass();
    assert.equal(sent, 0);
    queue.status = 0;
    queue.pass();
    assert.equal(sent, 1);
    assert.equal(queue.found.get(nameOf(1)), 11);
  });

  it('leaves the queue alone once it has ended, whatever was due', () => {
    const { queue, files } = make();
    let sent = 0;
    files.onSent = () => sent++;
    files.keep(nameOf(1), 11);
    files.keep(nameOf(2), 12);
    files.drop(nameOf(2));
    queue.status = ETOOMANYREFS;
    files.keep(nameOf(3), 13);
    files.end();
    queue.status = 0;
    // The queue's number is another descriptor's now.
    queue.callsToDeath = 0;
    queue.pass();
    queue.pass();
    assert.equal(queue.messages.length, 2);
    assert.equal(sent, 0);
  });

  it('reads the queue again when it is not what it should be', () => {
    const { queue, files } = make();
    for (const serial of [1, 2, 3]) files.keep(nameOf(serial), 10 + serial);
    queue.messages.length = 0;
    files.drop(nameOf(1));
    queue.pass();
    files.flush();
    assert.deepEqual([...queue.found.keys()].sort(), [nameOf(2), nameOf(3)]);
  });

  it('knows the serial numbers that are used in the queue, also of what was dropped', () => {
    const { queue, files } = make();
    assert.equal(files.lastSerial, -1);
    for (const serial of [1, 8, 2]) files.keep(nameOf(serial), 10 + serial);
    files.drop(nameOf(8));
    assert.equal(new FilesInFlight(7, [], queue).lastSerial, 8);
  });

  it('sends what the queue of the previous process lacks, and removes what that had dropped', () => {
    const { queue, files } = make();
    for (const serial of [1, 2]) files.keep(nameOf(serial), 10 + serial);
    const next = new FilesInFlight(
      7,
      [
        [nameOf(2), 32],
        [nameOf(3), 33],
      ],
      queue,
    );
    assert(next.has(nameOf(2)) && next.has(nameOf(3)));
    queue.pass();
    assert.deepEqual([...queue.found.keys()].sort(), [nameOf(2), nameOf(3)]);
  });

  it('at whatever call the process dies, the next one finds every file that was kept', () => {
    const serial = fc.nat(12);
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ kind: fc.constant('keep' as const), serial }) },
      { weight: 5, arbitrary: fc.record({ kind: fc.constant('drop' as const), serial }) },
      { weight: 4, arbitrary: fc.record({ kind: fc.constant('pass' as const), serial }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('die' as const), serial }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('fail' as const), serial }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const queue = new Queue();
        // No name is given twice: see lastSerial.
        const kept = new Map<StoredName, number>();
        let files = new FilesInFlight(7, [], queue);
        let next = 100;
        const take = (kind: string, serial: number): void => {
          if (kind === 'keep') {
            const fd = next++;
            files.keep(nameOf(fd), fd);
            kept.set(nameOf(fd), fd);
          } else if (kind === 'drop') {
            const name = [...kept.keys()][serial % Math.max(1, kept.size)];
            if (name === undefined) return;
            kept.delete(name);
            files.drop(name);
          } else if (kind === 'fail') queue.status = queue.status === 0 ? ETOOMANYREFS : 0;
          else if (kind === 'pass') queue.pass();
        };
        const goOn = (): void => {
          queue.callsToDeath = Infinity;
          queue.forgetTimers();
          files = new FilesInFlight(7, kept, queue);
        };
        for (const { kind, serial } of steps) {
          if (kind === 'die') queue.callsToDeath = serial;
          const before = [...kept.keys()].filter((name) => files.has(name));
          try {
            take(kind, serial);
          } catch (error) {
            if (!(error instanceof Death)) throw error;
            // The next process has no other descriptors than those that it finds.
            for (const name of before) if (kept.has(name)) assert.equal(queue.found.get(name), kept.get(name));
            goOn();
          }
          for (const [name, fd] of kept) {
            if (files.has(name)) assert.equal(queue.found.get(name), fd);
            else assert(files.unsentCount > 0);
          }
        }
        queue.status = 0;
        queue.room = 100;
        goOn();
        for (let turn = 0; turn < 5; turn++) queue.pass();
        assert.deepEqual(
          [...queue.found].sort(([one], [other]) => one - other),
          [...kept].sort(([one], [other]) => one - other),
        );
        assert.equal(queue.entries, kept.size);
      }),
      { numRuns: 500 },
    );
  });
});

describe('the queue of files', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  before(() => {
    directory = temporaryDirectory();
  });
  after(() => {
    directory.remove();
  });
  const queues: number[] = [];
  const begun: FilesInFlight[] = [];
  const at = (name: string): string => join(directory.path, name);
  const make = (): number => {
    const queue = posix.createQueue();
    assert(queue >= 0);
    queues.push(queue);
    return queue;
  };
  const begin = (queue: number): FilesInFlight => {
    const files = new FilesInFlight(queue);
    begun.push(files);
    return files;
  };
  /** Opens a new file and takes an OFD lock. */
  const lock = (name: string): number => {
    const fd = openSync(at(name), 'w');
    assert.equal(posix.setOfdLock(fd, LockType.WRITE, 0, 1), 0);
    return fd;
  };
  const wanted = (count: number): ReadonlySet<StoredName> =>
    new Set(Array.from({ length: count }, (_, serial) => nameOf(serial)));
  const isLocked = (name: string): boolean => {
    const fd = openSync(at(name), 'r+');
    const isTaken = posix.setOfdLock(fd, LockType.WRITE, 0, 1) < 0;
    closeSync(fd);
    return isTaken;
  };
  afterEach(() => {
    for (const files of begun.splice(0)) files.end();
    for (const queue of queues.splice(0)) posix.close(queue);
  });

  it('keeps the locks of files that are closed, until they are dropped', async () => {
    const files = begin(make());
    for (const [serial, name] of ['one', 'two', 'three'].entries()) {
      const fd = lock(name);
      files.keep(nameOf(serial), fd);
      if (name === 'two') closeSync(fd);
    }
    assert(isLocked('two'));
    files.drop(nameOf(1));
    await eventually('its lock is free', () => !isLocked('two'));
    assert(isLocked('one') && isLocked('three'));
  });

  it('releases a file without a lock of the process', async () => {
    const fd = openSync(at('posix'), 'w');
    assert.equal(posix.setlk(fd, LockType.WRITE, 0, 1), 0);
    const files = begin(make());
    files.keep(nameOf(1), fd);
    files.drop(nameOf(1));
    const words = new Uint32Array(MAX_PASSED);
    await eventually('the queue is empty', () => posix.peekFiles(files.queue, true, words, null) === EAGAIN);
    const { ino } = statSync(at('posix'));
    assert(readLocks().some(({ inode, pid }) => inode === BigInt(ino) && pid === process.pid));
    closeSync(fd);
  });

  it('passes thousands of files on, the later one of those with one name', () => {
    const queue = make();
    const files = begin(queue);
    const fd = lock('many');
    for (let serial = 0; serial < 3000; serial++) files.keep(nameOf(serial), fd);
    assert.equal(files.unsentCount, 0);
    const other = lock('other');
    posix.sendFiles(queue, Uint32Array.of(nameOf(5)), Int32Array.of(other), 1, false);
    const found = filesIn([queue], wanted(3000));
    try {
      assert.equal(found.size, 3000);
      for (const [name, { file }] of [
        [nameOf(4), { file: 'many' }],
        [nameOf(5), { file: 'other' }],
      ] as const) {
        posix.fstatInode(found.get(name) ?? -1);
        assert.equal(posix.statFields[2], statSync(at(file)).ino);
      }
    } finally {
      for (const one of found.values()) posix.close(one);
    }
    // It can be read again, and the descriptors in it are another process's to find.
    const again = filesIn([queue], wanted(3000));
    assert.equal(again.size, 3000);
    for (const one of again.values()) posix.close(one);
    closeSync(fd);
    closeSync(other);
    discardQueue(queue);
    assert(!isLocked('many'));
  });

  it('opens the files that are wanted, the last one of a name in two queues, and closes all others', () => {
    const queues = [make(), make()];
    const fds = ['first', 'second'].map((name) => lock(name));
    for (const [index, queue] of queues.entries())
      posix.sendFiles(
        queue,
        Uint32Array.of(nameOf(1), nameOf(2)),
        Int32Array.of(fds[index] ?? -1, fds[index] ?? -1),
        2,
        false,
      );
    for (const fd of fds) closeSync(fd);
    const before = openDescriptors('self').length;
    const found = filesIn(queues, new Set([nameOf(1)]));
    assert.equal(openDescriptors('self').length, before + 1);
    assert.deepEqual([...found.keys()], [nameOf(1)]);
    for (const queue of queues) discardQueue(queue);
    assert(!isLocked('first') && isLocked('second'));
    for (const one of found.values()) posix.close(one);
  });

  it('says which files it cannot open', () => {
    const queue = make();
    const fd = lock('short');
    posix.sendFiles(queue, Uint32Array.of(nameOf(1), nameOf(2)), Int32Array.of(fd, fd), 2, false);
    const { soft } = descriptorLimits('self');
    const limit = (most: number): unknown =>
      execFileSync('prlimit', [`--pid=${process.pid}`, `--nofile=${most}:`], { stdio: 'ignore' });
    limit(Math.max(...openDescriptors('self')) + 64);
    const spare: number[] = [];
    for (let next = posix.duplicate(fd); next >= 0; next = posix.duplicate(fd)) spare.push(next);
    closeSync(fd);
    const found = filesIn([queue], wanted(9));
    for (const one of [...spare, ...found.values()]) if (one >= 0) posix.close(one);
    limit(soft);
    assert.deepEqual(
      [...found],
      [
        [nameOf(1), fd],
        [nameOf(2), -1],
      ],
    );
    assert(isLocked('short'));
    discardQueue(queue);
  });

  it('has nothing for a word that is no name of a file, and closes its descriptor', () => {
    const queue = make();
    const fd = lock('stray');
    const words = Uint32Array.of(0, 0xffff_ffff, storedName(StoredKind.PIDFD, 3), nameOf(9));
    posix.sendFiles(queue, words, Int32Array.of(fd, fd, fd, fd), 4, false);
    closeSync(fd);
    const found = filesIn([queue], new Set([...words, nameOf(10)]));
    assert.deepEqual([...found.keys()], [nameOf(9)]);
    discardQueue(queue);
    assert(isLocked('stray'));
    for (const one of found.values()) posix.close(one);
    assert(!isLocked('stray'));
  });
});
