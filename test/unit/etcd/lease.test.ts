/** The host's lease on a clock of the test's own, with an etcd that answers as the test says. */
import assert from 'node:assert/strict';
import type { EtcdRequests, Reply } from '../../../src/etcd/client.ts';
import { Lease, marginOf } from '../../../src/etcd/lease.ts';
import { type Args, Failure, type OperationName } from '../../../src/etcd/messages.ts';
import { Clock } from './clock.ts';

const SECONDS = 8;

type Answers = { [N in OperationName]?: (args: Args<N>) => Reply<N> | null };

describe('the lease of a host', () => {
  let clock: Clock;
  let lease: Lease;
  let answers: Answers;
  const ended: string[] = [];
  const asked: OperationName[] = [];
  const granted = { ok: true, result: { lease: '7', seconds: SECONDS, cluster: '5' } } as const;
  const unknown = { ok: true, result: { seconds: 0 } } as const;
  const known = { ok: true, result: { seconds: SECONDS } } as const;
  const refused = { ok: false, failure: Failure.REFUSED, text: 'etcd is full' } as const;

  beforeEach(() => {
    clock = new Clock();
    ended.length = 0;
    asked.length = 0;
    answers = { grant: () => granted, keepAlive: () => known };
    const client: EtcdRequests = {
      request(name, args, limit, done) {
        asked.push(name);
        const reply = answers[name]?.(args) ?? null;
        const none = { ok: false, failure: Failure.UNREACHABLE, text: 'etcd does not answer' } as const;
        clock.setTimeout(
          () => {
            done(reply ?? none);
          },
          reply === null ? limit : 5,
        );
      },
    };
    lease = new Lease(SECONDS, client, clock, {
      announcement: (id) => ({ key: `/hosts/${id}`, value: 'this host' }),
      extended: () => undefined,
      ended: (reason) => ended.push(reason),
    });
    lease.start();
    clock.advance(1000);
    assert.equal(lease.id, '7');
  });

  it('goes on when a leader does not know it that was just elected', () => {
    const confirmed: unknown[] = [];
    answers.keepAlive = () => unknown;
    answers.confirm = (args) => {
      confirmed.push(args);
      return { ok: true, result: { exists: true } };
    };
    clock.advance(2500);
    assert.deepEqual(confirmed[0], { lease: '7', cluster: '5', key: '/hosts/7', value: 'this host' });
    assert.deepEqual(ended, []);
    assert.match(lease.lastFailure, /its new leader does not know it yet/);
    answers.keepAlive = () => known;
    clock.advance(60_000);
    assert.deepEqual([ended, lease.id, lease.lastFailure], [[], '7', '']);
  });

  it('counts no such answer: it ends in time when a leader never knows it', () => {
    answers.keepAlive = () => unknown;
    answers.confirm = () => ({ ok: true, result: { exists: true } });
    const end = lease.killAt;
    clock.advance(end - clock.now() - 1);
    assert.deepEqual(ended, []);
    clock.advance(1);
    assert.equal(ended.length, 1);
    // More than one keepalive was tried meanwhile.
    assert.ok(asked.filter((name) => name === 'confirm').length > 2);
  });

  it('ends at once when it is gone for certain', () => {
    answers.keepAlive = () => unknown;
    answers.confirm = () => ({ ok: true, result: { exists: false } });
    clock.advance(2000);
    assert.deepEqual(ended, ['etcd does not have it any more: it was revoked, or etcd was restored from a backup']);
  });

  it('ends at once when it has refused a lock, if it is gone for certain', () => {
    for (const [exists, count] of [
      [true, 0],
      [false, 1],
    ] as const) {
      answers.confirm = () => ({ ok: true, result: { exists } });
      lease.doubt('6');
      clock.advance(10);
      assert.equal(ended.length, 0, 'another one');
      lease.doubt('7');
      clock.advance(10);
      assert.equal(ended.length, count);
    }
  });

  it('ends at the margin, and not before, when nobody says whether it is gone', () => {
    for (const reply of [null, refused]) {
      answers.keepAlive = () => unknown;
      answers.confirm = () => reply;
      // A keepalive that is under way has its answer.
      clock.advance(10);
      const end = lease.killAt;
      assert.ok(end - clock.now() < SECONDS * 1000 - marginOf(SECONDS));
      clock.advance(end - clock.now() - 1);
      assert.deepEqual(ended, []);
      clock.advance(1);
      assert.equal(ended.length, 1);
      assert.match(ended.join(), /whether it is gone is not known/);
      ended.length = 0;
      answers = { grant: () => granted, keepAlive: () => known, revoke: () => ({ ok: true, result: null }) };
      lease.renew();
      clock.advance(1500);
      assert.equal(lease.id, '7');
    }
  });
});
