import assert from 'node:assert/strict';
import { type Subscriber, Subscriptions } from '../../../src/inquire/subscriptions.ts';
import { XdrReader } from '../../../xdr/codec.ts';
import { MESSAGE_MIN } from '../../../xdr/frame.ts';
import { type Change, changesEvent, CHANGES_MAX, ChangeType, Holding } from '../../../xdr/programs/inquire.ts';

class Listener implements Subscriber {
  readonly connection = this;
  subscribed = false;
  missed = 0;
  isOpen = true;
  takes = true;
  readonly received: Change[] = [];
  messages = 0;

  sendEvent(bytes: Buffer): boolean {
    if (!this.takes) return false;
    this.messages++;
    this.received.push(...changesEvent.payload.read(new XdrReader(bytes, MESSAGE_MIN)).changes);
    return true;
  }
}

const connected = (client: number): Change => ({
  type: ChangeType.CONNECTED,
  value: { time: 0, client, pid: 1 },
});

const lost: Change = {
  type: ChangeType.LOST,
  value: {
    time: 1,
    lock: {
      lockspace: '',
      name: '/disk',
      path: '/disk',
      flags: 0,
      descriptor: -1,
      device: 1,
      inode: 1n,
      file: 0,
      holdCount: 0,
      firstHold: 0,
      holds: [],
    },
    holding: Holding.TAKEN,
    confirmed: 1,
    pid: 0,
  },
};

describe('subscriptions', () => {
  it('describe a change only when a client has subscribed', () => {
    new Subscriptions().publish(() => assert.fail('nobody wants to know'), 0);
  });

  it('send changes in order, gathered into one message', () => {
    const subscriptions = new Subscriptions();
    const listener = new Listener();
    subscriptions.add(listener);
    for (let client = 1; client <= 3; client++) subscriptions.publish(() => connected(client), 10);
    subscriptions.flush();
    assert.deepEqual(listener.received, [connected(1), connected(2), connected(3)]);
    assert.equal(listener.messages, 1);
  });

  it('report lost locks only to who knows these events', () => {
    const subscriptions = new Subscriptions();
    const [older, newer] = [new Listener(), new Listener()];
    subscriptions.add(older);
    subscriptions.add(newer, true);
    subscriptions.publish(() => connected(1), 10);
    subscriptions.publish(() => lost, 10);
    subscriptions.flush();
    assert.deepEqual(older.received, [connected(1)]);
    assert.deepEqual(newer.received, [connected(1), lost]);
    older.takes = false;
    subscriptions.publish(() => lost, 10);
    subscriptions.flush();
    assert.equal(older.missed, 0);
    assert.deepEqual(newer.received.slice(2), [lost]);
  });

  it('tell who did not take events how many it missed, and keep none for it', () => {
    const subscriptions = new Subscriptions();
    const [slow, fast] = [new Listener(), new Listener()];
    subscriptions.add(slow);
    subscriptions.add(fast);
    slow.takes = false;
    const total = 3 * CHANGES_MAX;
    for (let client = 1; client <= total; client++) subscriptions.publish(() => connected(client), 10);
    subscriptions.flush();
    assert.equal(fast.received.length, total);
    slow.takes = true;
    subscriptions.flush();
    assert.deepEqual(slow.received, [{ type: ChangeType.MISSED, value: total }]);
    subscriptions.publish(() => connected(7), 10);
    subscriptions.flush();
    assert.deepEqual(slow.received.at(-1), connected(7));
  });

  it('send at once what grows large', () => {
    const subscriptions = new Subscriptions();
    const listener = new Listener();
    subscriptions.add(listener);
    subscriptions.publish(() => connected(1), 1024 * 1024);
    assert.equal(listener.received.length, 1);
  });

  it('tell of a restart to who had subscribed before it, and of nothing before to who comes', () => {
    const subscriptions = new Subscriptions();
    const [old, fresh] = [new Listener(), new Listener()];
    subscriptions.resume([old], 5);
    subscriptions.add(fresh);
    subscriptions.flush();
    assert.deepEqual(old.received, [{ type: ChangeType.RESUMED, value: 5 }]);
    assert.deepEqual(fresh.received, []);
  });

  it('go on counting after a restart for who had missed some before it', () => {
    const [before, after] = [new Subscriptions(), new Subscriptions()];
    const slow = new Listener();
    before.add(slow);
    slow.takes = false;
    before.publish(() => connected(1), 1);
    before.flush();
    slow.takes = true;
    after.resume([slow], 5);
    after.publish(() => connected(2), 1);
    after.flush();
    assert.deepEqual(slow.received, [{ type: ChangeType.MISSED, value: 3 }]);
  });

  it('forget who is gone, and take no more than 64', () => {
    const subscriptions = new Subscriptions();
    const gone = new Listener();
    subscriptions.add(gone);
    gone.isOpen = false;
    subscriptions.publish(() => connected(1), 1);
    subscriptions.flush();
    assert.equal(subscriptions.count, 0);
    for (let count = 0; count < 64; count++) subscriptions.add(new Listener());
    assert.throws(() => {
      subscriptions.add(new Listener());
    }, /64 subscribers already/);
  });
});
