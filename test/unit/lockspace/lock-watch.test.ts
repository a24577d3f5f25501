/** When storage helpers are asked about locks, and what becomes of answers that come at any time. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import path from 'node:path';
import { eventually } from '../../../src/lab/process.ts';
import { adoptRemote, type HeldFile, unregister } from '../../../src/lockspace/files.ts';
import { type LockAsker, LockWatch, type LockWatchSettings } from '../../../src/lockspace/lock-watch.ts';
import { Lockspaces, type Resource } from '../../../src/lockspace/lockspaces.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { type Hold, unknownOwner } from '../../../src/lockspace/owner.ts';
import { RemoteFiles } from '../../../src/lockspace/remote-files.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { type Answer, AnswerFlag, Operation, type Request } from '../../../src/storage/messages.ts';
import { Storages } from '../../../src/storage/storages.ts';
import { useTemporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';
import { poller } from '../support/poller.ts';

const { EAGAIN, EBUSY, EIO, ENOLCK, EOPNOTSUPP, ESTALE, ETIMEDOUT } = constants.errno;
const { BUSY, LOST, OWN } = AnswerFlag;
const { CONFIRM_LOCK, LOCK_AGAIN } = Operation;
const SHARED = modeOf(1);
const EXCLUSIVE = modeOf(0);
/** So often that a test need not wait, and never. In seconds. */
const SOON = 0.001;
const NEVER = 0;
const RARELY = 3600;
const FRESH_MS = 2;

const answer = (status: number, flags = 0, rival = -1): Answer => ({
  operation: CONFIRM_LOCK,
  status: -status,
  flags,
  file: 1,
  stat: null,
  rival,
  helper: 0,
  fd: -1,
});
const HELD = answer(0);
const GONE = answer(ENOLCK, LOST);
const TAKEN = answer(EAGAIN, BUSY, 0);

interface Call {
  readonly request: Request;
  readonly done: (answer: Answer | null) => void;
}

/** A helper that serves its queue only as the test says. */
class FakeHelper implements LockAsker {
  readonly id: number;
  readonly queue: Call[] = [];
  /** All requests so far. */
  readonly requests: Request[] = [];

  constructor(id: number) {
    this.id = id;
  }

  call(request: Request, _pid: number, done: Call['done']): void {
    this.requests.push(request);
    this.queue.push({ request, done });
  }

  /** Answers the first call in its queue. Null: the helper has died. */
  answer(given: Answer | null, operation: Operation = CONFIRM_LOCK): Request {
    const call = this.queue.shift();
    assert.ok(call !== undefined, 'nothing is asked');
    assert.equal(call.request.operation, operation);
    call.done(given);
    return call.request;
  }

  /** How often each file was asked about. */
  get asked(): Map<number, number> {
    const counts = new Map<number, number>();
    for (const { operation, file = 0 } of this.requests)
      if (operation === CONFIRM_LOCK) counts.set(file, (counts.get(file) ?? 0) + 1);
    return counts;
  }
}

async function turns(count = 5): Promise<void> {
  for (let done = 0; done < count; done++) await new Promise(setImmediate);
}

describe('the watch over locks on file servers', () => {
  const directory = useTemporaryDirectory();
  let lockspaces: Lockspaces;
  let files: HeldFile[];
  let helpers: Map<number, FakeHelper>;
  let helper: FakeHelper;
  let log: LogRecorder;
  let ended: number[];
  let changes: string[];
  let time: number;
  let watches: LockWatch[];
  /** That have begun. */
  let rounds: number;

  beforeEach(() => {
    lockspaces = new Lockspaces(dialectOf(9_000_000));
    lockspaces.remoteFiles = new RemoteFiles(new Storages(poller), lockspaces, {
      changed: () => undefined,
      closing: () => undefined,
      endOwners: () => undefined,
    });
    helper = new FakeHelper(1);
    helpers = new Map([[1, helper]]);
    [files, ended, changes, watches] = [[], [], [], []];
    [time, rounds] = [1_000_000, 0];
    log = new LogRecorder(path.join(directory.path, 'log'));
    lockspaces.observe({
      acquired: () => undefined,
      released: () => undefined,
      refused: () => undefined,
      lockChanged: ({ name, file }, isNew) => {
        const what = file.loss?.regained === 0 ? 'lost' : 'regained';
        changes.push(`${name} ${what}${isNew ? ', new' : ''}`);
      },
    });
  });

  afterEach(async () => {
    for (const watch of watches) watch.configure({ interval: NEVER, endsOwners: false });
    for (const file of files) unregister(file);
    // Releases that have begun.
    await turns(2);
    log.stop();
  });

  function watchWith(settings: Partial<LockWatchSettings> = {}): LockWatch {
    const storages = {
      byId: (id: number) => helpers.get(id),
      wasHelper: () => false,
      get hasHelpers() {
        rounds++;
        return helpers.size > 0;
      },
    };
    const host = { endOwners: (holds: readonly Hold[]) => ended.push(...holds.map(({ owner }) => owner.pid)) };
    const all = { interval: RARELY, endsOwners: false, ...settings };
    const watch = new LockWatch(storages, lockspaces, host, all, () => time, FRESH_MS);
    watches.push(watch);
    return watch;
  }

  /** A resource in the default lockspace, held by these owners. */
  function hold(name: string, number: number, pids: readonly number[] = [1], by = 1, blockDevice = 0): Resource {
    const mode = pids.length > 1 ? SHARED : EXCLUSIVE;
    return holdAs(name, number, pids, mode, by, blockDevice);
  }

  function holdAs(
    name: string,
    number: number,
    pids: readonly number[],
    mode = EXCLUSIVE,
    by = 1,
    blockDevice = 0,
  ): Resource {
    const file = adoptRemote(`90001:0:${number}`, mode.shared, { helper: by, file: number }, blockDevice);
    files.push(file);
    const holds = pids.map((pid) => ({ owner: unknownOwner(pid), since: 0, client: 0 }));
    lockspaces.restoreResource(lockspaces.default, name, name, mode, file, holds);
    const resource = lockspaces.default.resources.get(name);
    assert.ok(resource !== undefined);
    return resource;
  }

  /** One lock, which the watch has begun to ask about. */
  async function begun(settings?: Partial<LockWatchSettings>): Promise<{ watch: LockWatch; one: Resource }> {
    const one = hold('/one', 1);
    const watch = watchWith(settings);
    watch.start();
    await turns();
    assert.equal(helper.queue.length, 1);
    return { watch, one };
  }

  /** Asks once more. */
  async function askAgain(watch: LockWatch): Promise<void> {
    assert.throws(() => {
      watch.awaitAnswers({});
    }, Waiting);
    await turns();
  }

  const kindOf = (watch: LockWatch, resource: Resource): string | undefined => watch.stateOf(resource)?.kind;

  describe('asks', () => {
    it('at the start and at each interval about each lock, one question at a time in each file system', async () => {
      helpers.set(2, new FakeHelper(2));
      for (const number of [1, 2, 3]) hold(`/one/${number}`, number);
      for (const number of [11, 12, 13]) hold(`/two/${number}`, number, [1], 2);
      watchWith({ interval: SOON }).start();
      const all = [...helpers.values()];
      await eventually('each was asked about three times', () => {
        for (const { queue } of all) assert.ok(queue.length <= 1);
        for (const each of all) if (each.queue.length > 0) each.answer(HELD);
        return all.every(({ asked }) => asked.size === 3 && [...asked.values()].every((times) => times >= 3));
      });
    });

    it('soon about one that was granted and not given back since, and not before the interval about others', async () => {
      const watch = watchWith();
      hold('/old', 1);
      watch.start();
      await turns();
      helper.answer(HELD);
      for (const resource of [hold('/brief', 2), hold('/new', 3)]) watch.granted(resource);
      assert.equal(helper.queue.length, 0);
      lockspaces.release(lockspaces.default, '/brief', 1);
      await eventually('it is asked', () => helper.queue.length > 0);
      assert.equal(helper.answer(HELD).file, 3);
      await turns();
      assert.deepEqual([...helper.asked.keys()], [1, 3]);
    });

    it('nothing with interval 0, until a client wants to know; and again with another interval', async () => {
      const watch = watchWith({ interval: NEVER });
      watch.start();
      const one = hold('/one', 1);
      watch.granted(one);
      await turns();
      assert.deepEqual([helper.requests, kindOf(watch, one)], [[], 'unasked']);
      await askAgain(watch);
      helper.answer(HELD);
      assert.equal(kindOf(watch, one), 'held');
      watch.configure({ interval: SOON, endsOwners: false });
      await eventually('it is asked again', () => helper.queue.length > 0);
      helper.answer(HELD);
      await eventually('and again', () => helper.queue.length > 0);
      watch.configure({ interval: NEVER, endsOwners: false });
      helper.answer(HELD);
      const before = helper.requests.length;
      await turns(20);
      assert.equal(helper.requests.length, before);
    });

    it('about no device node, whose locks are this kernel’s, and about no local file', async () => {
      const node = hold('/dev/one', 1, [1], 1, 0x700);
      const watch = watchWith();
      watch.start();
      await turns();
      assert.deepEqual([helper.requests, watch.stateOf(node)], [[], null]);
    });

    it('about a file of two names once', async () => {
      holdAs('/one', 1, [1], SHARED);
      holdAs('/other', 1, [2], SHARED);
      watchWith().start();
      await turns();
      helper.answer(HELD);
      assert.deepEqual([helper.requests.length, helper.queue.length], [1, 0]);
    });

    it('about ten thousand locks, while a client’s call waits for one question at most', async () => {
      const count = 10_000;
      for (let number = 1; number <= count; number++) hold(`/many/${number}`, number);
      const watch = watchWith();
      watch.start();
      const served: string[] = [];
      let asked = 0;
      await eventually('all were asked about', async () => {
        await turns(1);
        // The helper answers some calls in each turn, and another client calls in between.
        for (let calls = 0; calls < 200 && helper.queue.length > 0; calls++) {
          if (asked % 1000 === 500) {
            helper.call({ operation: Operation.STAT, path: '/x' }, 7, () => served.push(`after ${asked}`));
            assert.ok(helper.queue.length <= 2, `the call waits for ${helper.queue.length - 1} others`);
          }
          const first = helper.queue[0]?.request.operation ?? 0;
          if (first === CONFIRM_LOCK) asked++;
          helper.answer(HELD, first as Operation);
        }
        return asked === count;
      });
      while (helper.queue.length > 0) helper.answer(null, Operation.STAT);
      assert.ok(served.length >= 10);
      assert.deepEqual([helper.asked.size, new Set(helper.asked.values())], [count, new Set([1])]);
    });

    it('no second question about a lock while the first has no answer', async () => {
      const { watch, one } = await begun({ interval: SOON });
      const before = rounds;
      await eventually('further rounds have begun', () => rounds >= before + 3);
      await askAgain(watch);
      assert.equal(helper.requests.length, 1);
      helper.answer(HELD);
      assert.equal(kindOf(watch, one), 'held');
    });

    it('the next helper when one has died with questions in its queue', async () => {
      const [one, two] = [hold('/one', 1), hold('/two', 2)];
      const watch = watchWith();
      watch.start();
      await turns();
      helpers.delete(1);
      const next = new FakeHelper(3);
      helpers.set(3, next);
      helper.answer(null);
      assert.deepEqual([kindOf(watch, one), kindOf(watch, two)], ['unknown', 'unasked']);
      for (const [index, { file }] of [one, two].entries()) file.remote = { helper: 3, file: index + 1 };
      await askAgain(watch);
      next.answer(HELD);
      next.answer(HELD);
      assert.deepEqual([kindOf(watch, one), kindOf(watch, two)], ['held', 'held']);
    });
  });

  describe('takes for unknown, and neither lost nor freed, what', () => {
    for (const [what, given] of [
      ['fails with ENOLCK', answer(ENOLCK)],
      ['fails with EIO', answer(EIO)],
      ['fails with ESTALE', answer(ESTALE)],
      ['fails with ETIMEDOUT', answer(ETIMEDOUT)],
      ['had another lock in the way from the start', answer(EBUSY)],
      ['the helper itself has under another name', answer(EAGAIN, BUSY | OWN)],
      ['an owner itself has', answer(EAGAIN, BUSY, 1)],
      ['this daemon has', answer(EAGAIN, BUSY, process.pid)],
      ['a helper that has died was asked', null],
    ] as const)
      it(what, async () => {
        const { watch, one } = await begun({ endsOwners: true });
        helper.answer(HELD);
        for (let times = 0; times < 2; times++) {
          await askAgain(watch);
          helper.answer(given);
        }
        assert.equal(kindOf(watch, one), 'unknown');
        assert.deepEqual([one.file.loss, one.file.locked, watch.lost, ended, changes], [null, true, [], [], []]);
        assert.equal(watch.unknownCount, 1);
        // Once, however often it is asked.
        assert.equal(log.lines.filter((line) => line.startsWith('warning: Whether')).length, 1);
        await askAgain(watch);
        helper.answer(HELD);
        assert.deepEqual([kindOf(watch, one), watch.unknownCount], ['held', 0]);
      });

    it('is not answered in time; an answer counts all the same', async () => {
      const { watch, one } = await begun({ endsOwners: true });
      helper.answer(HELD);
      const confirmed = time;
      await askAgain(watch);
      time += 1499;
      assert.equal(kindOf(watch, one), 'held');
      time += 3_600_000;
      const state = watch.stateOf(one);
      assert.deepEqual([state?.kind, state?.confirmed], ['unknown', confirmed]);
      assert.match(state?.reason ?? '', /does not answer since 1970-01-01T00:16:40/);
      assert.deepEqual([one.file.locked, watch.lost, ended], [true, [], []]);
      helper.answer(HELD);
      assert.deepEqual([watch.stateOf(one)?.kind, watch.stateOf(one)?.confirmed], ['held', time]);
    });

    it('has gone with its helper, whatever was known before', async () => {
      const { watch, one } = await begun();
      helper.answer(HELD);
      one.file.locked = false;
      assert.equal(kindOf(watch, one), 'unknown');
      one.file.locked = true;
      assert.equal(kindOf(watch, one), 'held');
      // One that was lost and taken again before.
      one.file.loss = { found: 1, confirmed: 1, regained: 2, taken: false, pid: 0 };
      assert.equal(kindOf(watch, one), 'regained');
      one.file.locked = false;
      assert.equal(kindOf(watch, one), 'unknown');
    });

    it('no file system can be asked, which is not even unknown', async () => {
      const { watch, one } = await begun();
      helper.answer(answer(EOPNOTSUPP));
      assert.deepEqual([kindOf(watch, one), watch.unknownCount, log.lines], ['unasked', 0, []]);
    });
  });

  describe('reports a lock as lost', () => {
    it('once, and as taken again when nobody has it; and as lost the next time', async () => {
      const { watch, one } = await begun();
      helper.answer(HELD);
      for (const round of [1, 2]) {
        await askAgain(watch);
        helper.answer(GONE);
        assert.deepEqual([kindOf(watch, one), one.file.locked], ['gone', false]);
        const request = helper.answer(answer(0), LOCK_AGAIN);
        assert.deepEqual([request.file, request.path], [1, '/one']);
        assert.deepEqual([kindOf(watch, one), one.file.locked], ['regained', true]);
        assert.deepEqual(watch.lost, [one]);
        assert.deepEqual(changes.slice(-2), ['/one lost, new', '/one regained']);
        assert.equal(changes.length, 2 * round);
      }
      assert.equal(log.lines.length, 4);
      assert.deepEqual(ended, []);
    });

    it('that another has, asks again at each interval, and takes it when it is free', async () => {
      const { watch, one } = await begun();
      helper.answer(HELD);
      for (let times = 0; times < 3; times++) {
        await askAgain(watch);
        helper.answer(TAKEN);
        assert.deepEqual([kindOf(watch, one), one.file.locked, helper.queue], ['taken', false, []]);
      }
      await askAgain(watch);
      helper.answer(GONE);
      // Another host was faster.
      helper.answer(answer(EAGAIN, BUSY), LOCK_AGAIN);
      assert.equal(kindOf(watch, one), 'taken');
      await askAgain(watch);
      helper.answer(GONE);
      helper.answer(answer(0), LOCK_AGAIN);
      assert.equal(kindOf(watch, one), 'regained');
      assert.deepEqual(changes, ['/one lost, new', '/one regained']);
    });

    it('by no doubt about one that is lost already', async () => {
      const { watch, one } = await begun();
      helper.answer(TAKEN);
      for (const given of [answer(EIO), answer(EOPNOTSUPP), null]) {
        await askAgain(watch);
        helper.answer(given);
        assert.deepEqual([kindOf(watch, one), one.file.locked], ['taken', false]);
      }
    });

    it('and ends its owners if it is told to, but those whose end has begun', async () => {
      const one = hold('/one', 1, [11, 12, 13]);
      hold('/other', 2, [14]);
      const [first] = one.holds;
      assert.ok(first !== undefined);
      first.end = { id: 1, isAwaited: true, isGone: false, wait: () => () => undefined };
      const watch = watchWith({ endsOwners: true });
      watch.start();
      await turns();
      helper.answer(TAKEN);
      helper.answer(HELD);
      assert.deepEqual(ended, [12, 13]);
      // Of one that nobody has nobody is ended.
      await askAgain(watch);
      helper.answer(HELD);
      helper.answer(GONE);
      helper.answer(answer(0), LOCK_AGAIN);
      assert.deepEqual(ended, [12, 13]);
    });

    it('and says that an owner goes on whose pid is nobody here', async () => {
      hold('/one', 1, [0]);
      const watch = watchWith({ endsOwners: true });
      watch.start();
      await turns();
      helper.answer(TAKEN);
      assert.ok(
        log.lines.includes(
          `error: The owners of resource '/one' go on, for their pids name no process here: lost_locks is "end"`,
        ),
      );
    });

    it('for all resources that have its file', async () => {
      const [one, other] = [holdAs('/one', 1, [1], SHARED), holdAs('/other', 1, [2], SHARED)];
      const watch = watchWith();
      watch.start();
      await turns();
      helper.answer(TAKEN);
      assert.deepEqual(watch.lost, [one, other]);
      assert.deepEqual(changes, ['/one lost, new', '/other lost, new']);
    });
  });

  describe('goes by no answer', () => {
    for (const [when, given] of [
      ['says taken', TAKEN],
      ['says gone', GONE],
    ] as const)
      it(`that ${when} of a lock which is being released, or was`, async () => {
        const { watch, one } = await begun({ endsOwners: true });
        helper.answer(HELD);
        await askAgain(watch);
        lockspaces.release(lockspaces.default, '/one', 1);
        assert.notEqual(one.release, null);
        helper.answer(given);
        await turns();
        assert.deepEqual([one.file.loss, watch.lost, changes, ended, helper.queue], [null, [], [], [], []]);

        // The next holder of that name has a lock of its own.
        const next = hold('/one', 2);
        await askAgain(watch);
        lockspaces.release(lockspaces.default, '/one', 1);
        await turns();
        const last = hold('/one', 3);
        watch.granted(last);
        helper.answer(given);
        assert.deepEqual([next.file.loss, last.file.loss, watch.lost], [null, null, []]);
        await eventually('the last one is asked about', () => helper.queue.length > 0);
        assert.equal(helper.answer(HELD).file, 3);
        assert.equal(kindOf(watch, last), 'held');
      });

    it('to a question of a helper’s file that the lock is not in any more', async () => {
      const { watch, one } = await begun();
      helper.answer(HELD);
      await askAgain(watch);
      one.file.remote = { helper: 1, file: 99 };
      helper.answer(GONE);
      assert.deepEqual([one.file.loss, kindOf(watch, one), helper.queue], [null, 'held', []]);
    });

    it('about a lock that this process has taken from its helper', async () => {
      const { watch, one } = await begun();
      helper.answer(HELD);
      await askAgain(watch);
      one.file.remote = null;
      helper.answer(TAKEN);
      assert.deepEqual([one.file.loss, watch.stateOf(one), watch.lost], [null, null, []]);
    });

    it('that a lock is taken again which is released by then', async () => {
      const { watch, one } = await begun();
      helper.answer(HELD);
      await askAgain(watch);
      helper.answer(GONE);
      lockspaces.release(lockspaces.default, '/one', 1);
      helper.answer(answer(0), LOCK_AGAIN);
      assert.deepEqual([changes, watch.lost, one.file.locked], [['/one lost, new'], [], false]);
    });
  });

  it('has a lock taken again by a name that still has it', async () => {
    holdAs('/one', 1, [1], SHARED);
    const other = holdAs('/other', 1, [2], SHARED);
    const watch = watchWith();
    watch.start();
    await turns();
    lockspaces.release(lockspaces.default, '/one', 1);
    helper.answer(GONE);
    assert.equal(helper.answer(answer(0), LOCK_AGAIN).path, '/other');
    assert.deepEqual([watch.lost, kindOf(watch, other)], [[other], 'regained']);
  });

  describe('after a restart', () => {
    const loss = { found: 500_000, confirmed: 400_000, regained: 0, taken: true, pid: 7 };

    it('knows what was lost before, whatever the file system answers', async () => {
      const one = hold('/one', 1);
      Object.assign(one.file, { loss, locked: false });
      const watch = watchWith({ endsOwners: true });
      watch.start();
      assert.deepEqual(watch.lost, [one]);
      await turns();
      helper.answer(answer(EIO));
      const state = watch.stateOf(one);
      assert.deepEqual([state?.kind, state?.confirmed, one.file.locked], ['taken', loss.confirmed, false]);
      assert.deepEqual([changes, ended], [[], []]);
    });

    it('takes a lock for regained of which only the former program got the answer', async () => {
      const one = hold('/one', 1);
      Object.assign(one.file, { loss: { ...loss, taken: false, pid: 0 }, locked: false });
      const watch = watchWith();
      watch.start();
      await turns();
      helper.answer(HELD);
      assert.deepEqual([kindOf(watch, one), one.file.locked, changes], ['regained', true, ['/one regained']]);
    });
  });

  describe('has a client wait', () => {
    it('until all locks are asked about, and answers its repeated call at once', async () => {
      const { watch } = await begun();
      hold('/two', 2);
      const client = {};
      let isDue = false;
      const call = (): void => {
        watch.awaitAnswers(client);
      };
      assert.throws(call, (error) => {
        assert.ok(error instanceof Waiting);
        error.begin(() => (isDue = true));
        return true;
      });
      await turns();
      helper.answer(HELD);
      await turns();
      assert.equal(isDue, false);
      helper.answer(HELD);
      await turns();
      assert.equal(isDue, true);
      call();
      // The next one asks again.
      assert.throws(call, Waiting);
    });

    it('not at all where there is no file server', () => {
      helpers.clear();
      watchWith().awaitAnswers({});
    });
  });
});
