import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import os from 'node:os';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { client } from '../../../src/programs/fuzz/client.ts';
import { Connection } from '../../../src/rpc/connection.ts';
import type { Pollable } from '../../../src/rpc/poller.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { encode, u32 } from '../../../src/lab/wire.ts';
import { Link, until } from '../support/link.ts';
import { poller } from '../support/poller.ts';

const peer = { pid: process.pid, uid: 0, gid: 0 };

/** A message with this many bytes of payload. */
function message(serial: number, payload = 0, type = 0): Buffer {
  return encode({ serial, type, payload: Buffer.alloc(payload, serial) });
}

const serials = (link: Link): number[] => link.served.map((bytes) => bytes.readUInt32BE(20));
const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

describe('a connection', () => {
  let link: Link;
  beforeEach(() => {
    link = new Link();
    link.connection.start();
  });
  afterEach(() => {
    link.dispose();
  });

  /** Sends one piece after the other, each read by itself. */
  async function sendPieces(pieces: readonly Buffer[]): Promise<void> {
    for (const piece of pieces) {
      link.send(piece);
      // Two turns: the poller reads in the first.
      for (let i = 0; i < 2; i++) await turn();
    }
  }

  it('finds the messages in any pieces, in order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat({ max: 300 }), { minLength: 1, maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 }),
        async (payloads, sizes) => {
          link.served.length = 0;
          const messages = payloads.map((payload, index) => message(index + 1, payload));
          const stream = Buffer.concat(messages);
          const pieces: Buffer[] = [];
          for (let at = 0, i = 0; at < stream.length; i++) {
            const size = sizes[i % sizes.length] ?? 1;
            pieces.push(stream.subarray(at, at + size));
            at += size;
          }
          await sendPieces(pieces);
          await until('all are served', () => link.served.length === messages.length);
          assert.deepEqual(link.served, messages);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('makes a call again whose answer comes later, and reads nothing until then', async () => {
    let done = (): void => undefined;
    link.answer = (bytes, out) => {
      if (link.served.length === 2) {
        return new Waiting((again) => {
          done = again;
          return () => undefined;
        });
      }
      out.opaque(bytes.subarray(20, 24));
      return undefined;
    };
    link.send(Buffer.concat([message(1), message(2), message(3)]));
    await until('the second waits', () => link.connection.isWaiting);
    link.send(message(4));
    await turn();
    await turn();
    assert.deepEqual(serials(link), [1, 2]);
    assert.deepEqual(link.take().bytes, u32(1), 'the first was answered');
    assert.equal(link.connection.pending.received.readUInt32BE(20), 2, 'a restart carries the call');
    done();
    await until('all are served', () => link.served.length === 5);
    assert.deepEqual(serials(link), [1, 2, 2, 3, 4]);
    assert.deepEqual(link.take().bytes, Buffer.concat([2, 3, 4].map(u32)));
  });

  it('makes a call again at once that a restart would carry, though what it has waited for is done', async () => {
    let done = (): void => undefined;
    link.answer = (bytes, out) => {
      if (link.served.length === 1) {
        return new Waiting((again) => {
          done = again;
          return () => undefined;
        });
      }
      out.opaque(bytes.subarray(20, 24));
      return undefined;
    };
    link.send(message(1));
    await until('it waits', () => link.connection.isWaiting);
    const isWaited = (one: Pollable): boolean => one instanceof Connection && one.arrival > 0;
    poller.hurry(isWaited);
    assert.equal(link.served.length, 1, 'it waits on');
    done();
    assert.equal(link.connection.pending.received.readUInt32BE(20), 1);
    poller.hurry(isWaited);
    assert.deepEqual(serials(link), [1, 1]);
    assert.equal(link.connection.pending.received.length, 0);
    link.send(message(2));
    await until('the next is served', () => link.served.length === 3);
    assert.deepEqual(link.take().bytes, Buffer.concat([1, 2].map(u32)));
  });

  it('forgets a call that waits when the peer hangs up', async () => {
    let forgotten = false;
    link.answer = () => new Waiting(() => () => (forgotten = true));
    link.send(message(1));
    await until('it waits', () => link.connection.isWaiting);
    link.send(message(2));
    client.close(link.fd);
    await until('the end is seen', () => link.ended);
    assert.ok(forgotten);
    assert.deepEqual(serials(link), [1]);
  });

  it('lets others have their turn when its requests take long', async () => {
    const other = new Link();
    other.connection.start();
    const order: string[] = [];
    link.answer = (bytes, out) => {
      order.push(`long ${bytes.readUInt32BE(20)}`);
      out.opaque(bytes);
      const end = performance.now() + 6;
      while (performance.now() < end);
    };
    other.answer = () => order.push('other');
    link.send(Buffer.concat([message(1), message(2), message(3), message(4).subarray(0, 5)]));
    other.send(message(1));
    await until('all are served', () => order.length === 4);
    assert.equal(order.indexOf('other') < 2, true, order.join());
    assert.deepEqual(
      order.filter((what) => what !== 'other'),
      ['long 1', 'long 2', 'long 3'],
    );
    assert.deepEqual(link.connection.pending.received, message(4).subarray(0, 5));
    assert.deepEqual(link.take().bytes, Buffer.concat([message(1), message(2), message(3)]));
    link.send(message(4).subarray(5));
    await until('the rest is served', () => order.length === 5);
    other.dispose();
  });

  it('may be closed while others have their turn', async () => {
    link.answer = () => {
      const end = performance.now() + 6;
      while (performance.now() < end);
    };
    link.send(Buffer.concat([message(1), message(2), message(3)]));
    await until('one is served', () => link.served.length > 0);
    link.connection.close();
    await turn();
    await turn();
    assert.equal(link.served.length < 3 && link.ended, true);
  });

  it('takes single bytes', async () => {
    const one = message(7, 10);
    await sendPieces([...one].map((byte) => Buffer.from([byte])));
    await until('it is served', () => link.served.length === 1);
    assert.deepEqual(link.served, [one]);
  });

  it('serves what is whole and keeps what is not', async () => {
    link.send(Buffer.concat([message(1), message(2), message(3).subarray(0, 9)]));
    await until('two are served', () => link.served.length === 2);
    assert.deepEqual(link.connection.pending.received, message(3).subarray(0, 9));
    link.send(message(3).subarray(9));
    await until('the third is served', () => link.served.length === 3);
    assert.equal(link.connection.pending.received.length, 0);
  });

  for (const length of [0, 1, 3, 4, 33554437, 0xffffffff]) {
    it(`closes at once, saying nothing, at a length of ${length}`, async () => {
      link.send(u32(length));
      await until('it ends', () => link.ended);
      assert.deepEqual(link.take(), { bytes: Buffer.alloc(0), end: true });
    });
  }

  for (const length of [5, 27]) {
    it(`waits for the ${length} bytes of a message too short for a header, then closes, as C does`, async () => {
      const short = Buffer.concat([u32(length), Buffer.alloc(length - 4)]);
      await sendPieces([short.subarray(0, -1)]);
      assert.equal(link.ended, false);
      link.send(short.subarray(-1));
      await until('it ends', () => link.ended);
      assert.equal(link.served.length, 0);
    });
  }

  it('waits for the body of the longest message', async () => {
    await sendPieces([Buffer.concat([u32(33554436), message(1).subarray(4)])]);
    assert.equal(link.ended, false);
  });

  it('answers what came before a message that ends the connection', async () => {
    link.answer = (bytes, out) => {
      out.opaque(bytes);
    };
    link.send(Buffer.concat([message(1), u32(0)]));
    await until('it ends', () => link.ended);
    assert.deepEqual(link.take(), { bytes: message(1), end: true });
  });

  it('keeps no more of a huge message than its programs can use, and serves the next one', async () => {
    const size = 300_000;
    const huge = message(1, size);
    const pieces: Buffer[] = [];
    for (let at = 0; at < huge.length; at += 50_000) pieces.push(huge.subarray(at, at + 50_000));
    for (const piece of pieces) {
      link.send(piece);
      await until('it is read', () => {
        const { received, skip } = link.connection.pending;
        return link.served.length > 0 || (received.length < 2 * 16384 + 4096 && skip >= 0);
      });
      for (let i = 0; i < 8; i++) await turn();
    }
    link.send(message(2));
    await until('both are served', () => link.served.length === 2);
    assert.deepEqual(serials(link), [1, 2]);
    const [first] = link.served;
    assert.ok(first !== undefined && first.length >= 4096 && first.length < 40_000);
    assert.equal(first.readUInt32BE(0), first.length);
  });

  it('drops the tail of a huge message together with the messages behind it', async () => {
    const huge = message(1, 20_000);
    link.send(huge.subarray(0, 6000));
    await until('its tail is being dropped', () => link.connection.pending.skip > 0);
    link.send(Buffer.concat([huge.subarray(6000), message(2, 4), message(3).subarray(0, 5)]));
    await until('two are served', () => link.served.length === 2);
    assert.deepEqual(serials(link), [1, 2]);
    assert.deepEqual(link.connection.pending.received, message(3).subarray(0, 5));
  });

  describe('with descriptors', () => {
    const withDescriptors = (serial: number, count: number): Buffer =>
      encode({ serial, type: 4, payload: Buffer.concat([u32(count), Buffer.alloc(8, serial)]) });

    it('serves when all that were announced have come, and keeps none', async () => {
      const before = openDescriptors();
      link.send(withDescriptors(1, 2));
      for (let i = 0; i < 4; i++) await turn();
      assert.equal(link.served.length, 0);
      link.send(Buffer.from([0]), [0]);
      for (let i = 0; i < 4; i++) await turn();
      assert.equal(link.served.length, 0);
      link.send(Buffer.from([0]), [0, 1]);
      link.send(message(2));
      await until('both are served', () => link.served.length === 2);
      assert.deepEqual(serials(link), [1, 2]);
      assert.equal(openDescriptors(), before);
    });

    it('serves at once when none are announced', async () => {
      link.send(Buffer.concat([withDescriptors(1, 0), message(2)]));
      await until('both are served', () => link.served.length === 2);
    });

    it('closes at more than 32, at no count, and at a byte without its descriptor', async () => {
      const bad = [
        withDescriptors(1, 33),
        encode({ type: 4 }),
        encode({ type: 4, payload: Buffer.alloc(2) }),
        Buffer.concat([withDescriptors(1, 1), Buffer.from([0])]),
        Buffer.concat([withDescriptors(1, 1), message(2)]),
      ];
      for (const bytes of bad) {
        const other = new Link();
        other.connection.start();
        other.send(bytes);
        await until('it ends', () => other.ended);
        assert.equal(other.served.length, 0);
        other.dispose();
      }
    });

    it('closes when one descriptor comes with more data bytes than one', async () => {
      const other = new Link();
      other.connection.start();
      other.send(withDescriptors(1, 3));
      other.send(message(2), [0]);
      await until('it ends', () => other.ended);
      assert.equal(other.served.length, 0);
      other.dispose();
    });

    it('serves what comes in one go with the last data byte', async () => {
      link.send(withDescriptors(1, 1));
      link.send(Buffer.concat([Buffer.from([0]), message(2)]), [0]);
      await until('both are served', () => link.served.length === 2);
    });

    it('drops those that no message announced', async () => {
      const before = openDescriptors();
      for (let serial = 1; serial <= 50; serial++) link.send(message(serial), [0, 1, 2]);
      await until('all are served', () => link.served.length === 50);
      assert.equal(openDescriptors(), before);
    });

    it('goes on waiting for them after a restart', async () => {
      const first = Buffer.concat([withDescriptors(1, 2), Buffer.from([0])]);
      const other = new Link(4096, (host, fd) => {
        const connection = new Connection(host, fd, 1, peer, 0);
        connection.restore({ received: first, skip: 0, unsent: Buffer.alloc(0) });
        return connection;
      });
      other.connection.start();
      assert.equal(other.ended, false);
      other.send(Buffer.from([0]), [0]);
      await until('it is served', () => other.served.length === 1);
      other.dispose();
    });
  });

  it('stops reading from a peer that does not read, and goes on where it stopped', async () => {
    const reply = Buffer.alloc(60_000, 1);
    link.answer = (bytes, out) => {
      out.opaque(bytes.subarray(20, 24));
      out.opaque(reply);
    };
    let sent = 0;
    while (link.connection.pending.unsent.length === 0) {
      link.send(Buffer.concat([message(++sent), message(++sent)]));
      for (let i = 0; i < 3; i++) await turn();
    }
    const stuck = link.served.length;
    for (let i = 0; i < 3; i++) link.send(message(++sent));
    for (let i = 0; i < 20; i++) await turn();
    assert.equal(link.served.length, stuck);

    const got: Buffer[] = [];
    const size = 60_004;
    await until('all replies came', () => {
      got.push(link.take().bytes);
      return got.reduce((sum, { length }) => sum + length, 0) === sent * size;
    });
    const bytes = Buffer.concat(got);
    const order = Array.from({ length: sent }, (_, index) => bytes.readUInt32BE(index * size));
    assert.deepEqual(
      order,
      Array.from({ length: sent }, (_, index) => index + 1),
    );
    assert.equal(link.connection.pending.unsent.length, 0);
  });

  it('ends when a peer that owes reading goes away', async () => {
    link.answer = (_, out) => {
      out.opaque(Buffer.alloc(60_000));
    };
    for (let i = 0; link.connection.pending.unsent.length === 0; i++) {
      link.send(message(i));
      for (let j = 0; j < 3; j++) await turn();
    }
    client.close(link.fd);
    await until('it ends', () => link.ended);
  });

  it('answers everything before a half-close, then ends', async () => {
    link.answer = (bytes, out) => {
      out.opaque(bytes);
    };
    link.send(Buffer.concat([message(1), message(2)]));
    client.finish(link.fd);
    await until('it ends', () => link.ended);
    assert.deepEqual(link.take(), { bytes: Buffer.concat([message(1), message(2)]), end: true });
  });

  it('ends at a half-close inside a message', async () => {
    link.send(message(1).subarray(0, 10));
    client.finish(link.fd);
    await until('it ends', () => link.ended);
    assert.equal(link.served.length, 0);
  });

  it('serves nothing behind a call that closes it, and sends the reply first', async () => {
    link.answer = (bytes, out, connection) => {
      out.opaque(bytes);
      connection.closeAfterReply();
    };
    link.send(Buffer.concat([message(1), message(2)]));
    await until('it ends', () => link.ended);
    assert.deepEqual(link.take(), { bytes: message(1), end: true });
    assert.equal(link.served.length, 1);
  });

  it('still ends after a restart that came before its last reply was taken', async () => {
    const other = new Link(4096, (host, fd) => {
      const connection = new Connection(host, fd, 1, peer, 0);
      connection.restore({ received: message(1), skip: 0, unsent: Buffer.from('reply'), closing: true });
      return connection;
    });
    other.connection.start();
    await until('it ends', () => other.ended);
    assert.deepEqual(other.take(), { bytes: Buffer.from('reply'), end: true });
    assert.equal(other.served.length, 0);
    other.dispose();
  });

  it('stays closed when a call closes it at once', async () => {
    link.answer = (_, out, connection) => {
      out.u32(1);
      connection.close();
    };
    link.send(Buffer.concat([message(1), message(2)]));
    await until('it ends', () => link.ended);
    assert.equal(link.served.length, 1);
    assert.equal(link.take().bytes.length, 0);
  });

  it('sends events behind replies, but keeps none for a peer that does not read', async () => {
    assert.equal(link.connection.sendEvent(Buffer.from('event')), true);
    await until('it came', () => link.take().bytes.toString() === 'event');
    while (link.connection.sendEvent(Buffer.alloc(60_000)));
    assert.equal(link.connection.sendEvent(Buffer.from('event')), false);
    link.connection.close();
    assert.equal(link.connection.sendEvent(Buffer.from('event')), false);
  });

  it('makes a call that waited before a restart again at once, be there replies that its peer has not taken', async () => {
    const other = new Link(4096, (host, fd) => {
      const connection = new Connection(host, fd, 1, peer, 0);
      connection.restore({ received: message(1), skip: 0, unsent: Buffer.from('reply') });
      connection.arrival = 1;
      return connection;
    });
    other.answer = (bytes, out) => {
      out.opaque(bytes);
    };
    other.connection.start();
    assert.equal(other.served.length, 1);
    const expected = Buffer.concat([Buffer.from('reply'), message(1)]);
    const got: Buffer[] = [];
    await until('both replies came', () => {
      got.push(other.take().bytes);
      return Buffer.concat(got).equals(expected);
    });
    other.dispose();
  });

  it('takes up what a restart carried over: bytes, what is to be skipped, and replies', async () => {
    const huge = message(2, 10_000);
    const other = new Link(4096, (host, fd) => {
      const connection = new Connection(host, fd, 1, peer, 0);
      const received = Buffer.from(huge.subarray(0, 5000));
      connection.restore({ received, skip: huge.length - 5000, unsent: Buffer.from('reply') });
      return connection;
    });
    other.connection.start();
    await until('the reply came', () => other.take().bytes.toString() === 'reply');
    other.send(Buffer.concat([huge.subarray(5000), message(3)]));
    await until('both are served', () => other.served.length === 2);
    assert.deepEqual(serials(other), [2, 3]);
    other.dispose();
  });

  it('serves whole messages that a restart carried over once their replies have room', async () => {
    const other = new Link(4096, (host, fd) => {
      const connection = new Connection(host, fd, 1, peer, 0);
      connection.restore({
        received: Buffer.concat([message(1), message(2), message(3).subarray(0, 3)]),
        skip: 0,
        unsent: Buffer.from('reply'),
      });
      return connection;
    });
    other.connection.start();
    await until('both are served', () => other.served.length === 2);
    other.send(message(3).subarray(3));
    await until('the third is served', () => other.served.length === 3);
    other.dispose();
  });

  it('loses nothing that came together with what broke a handler', async () => {
    const other = new Link();
    other.connection.start();
    const defects: unknown[] = [];
    const others = process.rawListeners('uncaughtException') as ((error: Error) => void)[];
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => defects.push(error.message));
    try {
      const breaks = (): never => {
        throw new Error('a defect');
      };
      // The poller reads from both before it serves either, in any order.
      for (const one of [link, other]) one.answer = breaks;
      for (const one of [link, other]) one.send(message(1));
      await until('both are served', () => link.served.length === 1 && other.served.length === 1);
      assert.deepEqual(defects, ['a defect']);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of others) process.on('uncaughtException', listener);
      other.dispose();
    }
  });

  for (const error of [os.constants.errno.ENOBUFS, os.constants.errno.ENOMEM]) {
    it(`outlives a lack of memory in reading and sending (errno ${error})`, async () => {
      link.connection.onRead(Buffer.alloc(0), 0, -error, false);
      link.connection.onUnsent(message(1), -error);
      await until('the reply is there', () => link.take().bytes.equals(message(1)));
      link.send(message(2));
      await until('the next is served', () => link.served.length === 1);
      assert.equal(link.ended, false);
    });
  }
});
