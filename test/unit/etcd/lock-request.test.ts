/** A request for a lock, with an etcd, a guard and a clock that do what the test says: a lock counts only for an owner that the guard has. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { GuardedOwners, type OwnerGuard } from '../../../src/etcd/guarded-owners.ts';
import { type Acquired, type EtcdAnswer, LockRequest, type RequestHost } from '../../../src/etcd/lock-request.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import type { OwnerIdentity } from '../../../src/lockspace/owner.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { Clock } from './clock.ts';

const BOUND = 3000;
const RESOURCE = '/locks/disk';
const PID = 4321;
const ESRCH = 3;

const exclusive = modeOf(0);
const identity: OwnerIdentity = { uuid: '00000000-0000-0000-0000-000000000001', id: 1, name: 'db', pid: PID };
const hold = { owner: identity, since: 0, client: 1 };
const lock = { key: RESOURCE, revision: '17', lease: '7' };
const granted: EtcdAnswer = { kind: 'granted', lock };

describe('a request for a lock in etcd', () => {
  let clock: Clock;
  let owners: GuardedOwners;
  let host: RequestHost;
  /** What it was told, and what became of everything. */
  const events: string[] = [];
  let lease: string | null;
  let isKnown: boolean;
  let isAlive: boolean;
  let holders: Set<number>;
  let answer: ((answer: EtcdAnswer) => void) | null;
  /** Answers of the guard that are due. */
  let taken: ((status: number) => void)[];
  let leased: (() => void)[];
  /** Pidfds that are open. */
  let pidfds: Set<number>;
  let nextPidfd: number;

  const guard: OwnerGuard = {
    isReady: true,
    add: (_token, _pidfd, done) => {
      events.push('guard: add');
      taken.push(done);
    },
    remove: () => events.push('guard: remove'),
    arm: () => undefined,
    keep: () => undefined,
  };

  const processHost = {
    processOf: () => {
      if (!isKnown) return null;
      pidfds.add(nextPidfd);
      return { pidfd: nextPidfd++, startTime: 99 };
    },
    closePidfd: (pidfd: number) => {
      assert.ok(pidfds.delete(pidfd), `pidfd ${pidfd} is closed twice`);
    },
    isAlive: () => isAlive,
  };

  beforeEach(() => {
    clock = new Clock();
    events.length = 0;
    lease = '7';
    isKnown = true;
    isAlive = true;
    holders = new Set();
    answer = null;
    taken = [];
    leased = [];
    pidfds = new Set();
    nextPidfd = 100;
    owners = new GuardedOwners({
      ...processHost,
      clock,
      holdsAny: (pid) => holders.has(pid),
      refused: (pid, status) => events.push(`guard refused ${pid}: ${status}`),
    });
    owners.start(guard);
    host = {
      ...processHost,
      clock,
      bound: BOUND,
      owners,
      leaseId: () => lease,
      lackOfLease: () => 'no lease',
      whenLeased: (_limit, done) => leased.push(done),
      askEtcd: (_wish, id, limit, done) => {
        events.push(`ask on ${id} for ${limit}`);
        answer = done;
      },
      discard: ({ revision }) => events.push(`give back ${revision}`),
      ended: (_resource, owner) => {
        if (owner !== null) owner.calls--;
        events.push(owner === null ? 'ended' : 'ended with an owner');
        owners.syncSoon();
      },
    };
  });

  function start(): { readonly request: LockRequest; discard: () => void } {
    const state = { discard: () => assert.fail('no answer') as undefined };
    const wish = { resource: RESOURCE, mode: exclusive, hold };
    const request = new LockRequest(host, wish, (found: Acquired, discard) => {
      events.push(found.kind === 'failed' ? `failed: ${found.text} (${found.errno})` : found.kind);
      state.discard = () => {
        discard();
        return undefined;
      };
    });
    request.start();
    return {
      request,
      discard: () => {
        state.discard();
      },
    };
  }

  it('is answered when etcd has granted it and the guard has the owner, and not before', async () => {
    start();
    answer?.(granted);
    await turn();
    assert.deepEqual(events, ['ask on 7 for 3000', 'guard: add']);
    taken[0]?.(0);
    assert.deepEqual(events.slice(2), ['granted']);
    clock.advance(2 * BOUND);
    await turn();
    assert.equal(events.length, 3, 'its time changes nothing afterwards');
    assert.equal(pidfds.size, 1, "the guard's owner keeps its pidfd");
  });

  it('gives nobody to the guard who only asks', async () => {
    start();
    answer?.({ kind: 'busy', holders: [] });
    await turn();
    assert.deepEqual(events, ['ask on 7 for 3000', 'ended', 'busy']);
    assert.equal(pidfds.size, 0);
  });

  it('gives back what is granted for an owner that cannot be told', async () => {
    isKnown = false;
    start();
    assert.deepEqual(events, ['ask on 7 for 3000'], 'never at once');
    await turn();
    assert.equal(events.length, 2, 'no other may ask before etcd has answered');
    assert.match(events[1] ?? '', /^failed: owner 4321 \(db\) could not be ended .* cannot be told for certain \(1\)$/);
    answer?.(granted);
    assert.deepEqual(events.slice(2), ['ended', 'give back 17']);
  });

  it('gives back what is granted for an owner that has ended meanwhile', () => {
    start();
    isAlive = false;
    answer?.(granted);
    assert.equal(events[1], 'give back 17');
    assert.match(events[3] ?? '', /cannot be told for certain/);
    assert.equal(pidfds.size, 0);
  });

  it('gives back what is granted for an owner that the guard does not take', async () => {
    start();
    answer?.(granted);
    taken[0]?.(-ESRCH);
    await turn();
    assert.equal(events[2], 'give back 17');
    assert.equal(events[3], 'ended with an owner');
    assert.match(
      events[4] ?? '',
      /^failed: owner 4321 \(db\) could not be ended with the lease: .*No such process \(3\)$/,
    );
    assert.equal(events[5], 'guard refused 4321: -3');
    assert.equal(pidfds.size, 0);
  });

  it('gives the lock back, and fails, when no guard answers within its time', async () => {
    start();
    answer?.(granted);
    clock.advance(BOUND);
    assert.deepEqual(events.slice(2), [
      'give back 17',
      'ended with an owner',
      'failed: the guard of locks in etcd does not answer (110)',
    ]);
    // Too late: it is nobody's by now.
    taken[0]?.(0);
    await turn();
    assert.deepEqual(events.slice(5), ['guard: remove']);
    assert.equal(pidfds.size, 0);
  });

  it('fails with the lease while etcd has not answered, and gives back what it grants afterwards', () => {
    start();
    lease = null;
    clock.advance(BOUND);
    assert.deepEqual(events.slice(1), ['failed: no lease (110)']);
    answer?.(granted);
    assert.deepEqual(events.slice(2), ['ended', 'give back 17']);
    assert.equal(pidfds.size, 0);
  });

  it('waits for the lease, and fails without one', async () => {
    lease = null;
    start();
    await turn();
    assert.deepEqual(events, []);
    leased[0]?.();
    assert.deepEqual(events, [], 'never at once');
    await turn();
    assert.deepEqual(events, ['ended', 'failed: no lease (110)']);
  });

  it('asks with the time that is left once there is a lease', async () => {
    lease = null;
    start();
    await turn();
    clock.advance(1000);
    lease = '8';
    leased[0]?.();
    assert.deepEqual(events, ['ask on 8 for 2000']);
  });

  it('asks for nothing that nobody waits for any more', async () => {
    lease = null;
    const { request } = start();
    await turn();
    request.forget();
    lease = '8';
    leased[0]?.();
    await turn();
    assert.deepEqual(events, ['ended']);
  });

  it('gives back what is granted when nobody waits for it any more, or makes use of it', () => {
    const { request } = start();
    request.forget();
    answer?.(granted);
    taken[0]?.(0);
    assert.deepEqual(events.slice(2), ['ended with an owner', 'give back 17']);
    events.length = 0;
    const { discard } = start();
    answer?.(granted);
    assert.deepEqual(events, ['ask on 7 for 3000', 'granted'], 'the guard has the owner by now');
    discard();
    assert.deepEqual(events.slice(2), ['ended with an owner', 'give back 17']);
  });

  it('is not made where a call by another name has got the lock', () => {
    const wish = { resource: RESOURCE, mode: exclusive, hold };
    new LockRequest(host, wish, ({ kind }) => events.push(kind)).pass();
    assert.deepEqual(events, ['ended', 'known']);
  });

  it('keeps an owner in the guard that holds something, or is about to', async () => {
    start();
    answer?.(granted);
    taken[0]?.(0);
    owners.syncSoon();
    await turn();
    assert.ok(!events.includes('guard: remove'), 'its call is not made again yet');
    const owner = owners.take(hold);
    assert.ok(owner !== null);
    holders.add(PID);
    owner.calls--;
    owners.syncSoon();
    await turn();
    assert.ok(!events.includes('guard: remove'), 'it holds the lock');
    holders.delete(PID);
    owners.syncSoon();
    await turn();
    assert.equal(events.at(-1), 'guard: remove');
    assert.equal(pidfds.size, 0);
  });

  it('has an owner wait for the next guard when one has died', () => {
    owners.take(hold);
    taken[0]?.(0);
    owners.admit(hold, BOUND);
    owners.guardDied();
    assert.throws(() => {
      owners.admit(hold, BOUND);
    }, Waiting);
    start();
    answer?.(granted);
    assert.ok(!events.includes('granted'));
    taken[0]?.(0);
    assert.equal(events.at(-1), 'granted');
    owners.admit(hold, BOUND);
  });
});
