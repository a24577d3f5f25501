/** Hostile peers: the daemon goes on serving others, and holds a bounded amount of memory for each. */
import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { createConnection } from 'node:net';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import {
  autocreate,
  decodeError,
  encode,
  keepaliveProgram,
  lock,
  type Peer,
  text,
  u32,
} from '../../../src/lab/wire.ts';

const ping = { program: keepaliveProgram, procedure: 1, type: 2 };
const NOBODY = 4_200_000;
const MIB = 1024 * 1024;
/** The length word of the longest valid message. */
const MAX_LENGTH = 32 * MIB + 4;
/** The most bytes that the lock server holds for a connection: the useful part of a message, and the buffer it grew in. */
const PER_CONNECTION = 300 * 1024;
/** The engine's own slack between two collections of garbage. */
const SLACK = 48 * MIB;

function resident(pid: number): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  return Number(kib) * 1024;
}

/** STATUS of the inquire program. */
const statusCall = { program: 0x696e7175, procedure: 6, payload: u32(0) };

const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

describe('hostile peers', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let witness: Peer;
  let calls: number;
  let watching: Promise<void>;
  /** A property, because it changes while a loop runs. */
  const witnessing = { goesOn: true };

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
    witness = await daemon.connect();
    await witness.must(lock.register({ pid: NOBODY, name: 'witness' }));
    witnessing.goesOn = true;
    calls = 0;
    watching = (async () => {
      const name = `${daemon.lab.directory}/witness`;
      while (witnessing.goesOn) {
        await witness.must(lock.acquire('', name, autocreate));
        await witness.must(lock.release('', name));
        calls += 2;
      }
    })();
  });

  afterEach(async () => {
    witnessing.goesOn = false;
    await (watching as Promise<void> | undefined);
    await (daemon as LockDaemon | undefined)?.stop();
  });

  /** Waits until the witness has got so many more answers. */
  async function witnessAnswered(more: number): Promise<void> {
    const wanted = calls + more;
    await eventually('another client is answered', () => calls >= wanted);
  }

  it('answers others beside 300 connections of random garbage, and lets all of them go', async () => {
    // The first has a storage helper started.
    await witnessAnswered(2);
    const before = descriptors(daemon.pid);
    await Promise.all(
      Array.from({ length: 300 }, async (_, index) => {
        const peer = await daemon.connect();
        const garbage = randomBytes(randomInt(4, 4096));
        // One third begins with a valid length, another third with a whole header.
        if (index % 3 === 1) garbage.writeUInt32BE(garbage.length, 0);
        else if (index % 3 === 2) encode({ payload: garbage }).copy(garbage);
        peer.send(garbage);
        if (index % 2 === 0) peer.end();
        else peer.close();
        await peer.drain();
      }),
    );
    await witnessAnswered(100);
    await eventually('all are gone', () => descriptors(daemon.pid) <= before);
  });

  it('holds no more than the useful part of messages of 32 MiB', async () => {
    const idle = resident(daemon.pid);
    const chunk = Buffer.alloc(MIB, 'x');
    const peers = await Promise.all(Array.from({ length: 8 }, async () => daemon.connect()));
    await Promise.all(
      peers.map(async (peer) => {
        const header = encode({ procedure: 1 });
        header.writeUInt32BE(MAX_LENGTH, 0);
        peer.send(header);
        let left = MAX_LENGTH - header.length;
        // All but the last byte: the message is never whole.
        while (left > 1) {
          const piece = chunk.subarray(0, Math.min(chunk.length, left - 1));
          left -= piece.length;
          if (!peer.socket.write(piece)) await once(peer.socket, 'drain');
        }
      }),
    );
    await witnessAnswered(100);
    const grown = resident(daemon.pid) - idle;
    assert.ok(grown < peers.length * PER_CONNECTION + SLACK, `${grown} bytes more for 256 MiB received`);
    // With the last byte each message gets its answer.
    for (const peer of peers) {
      peer.send(Buffer.from('x'));
      assert.equal((await peer.receive())?.status, 1);
      peer.close();
    }
  });

  it('holds nothing for messages of 32 MiB that are only announced, and lets go who announces more', async () => {
    const idle = resident(daemon.pid);
    const announcing: Peer[] = [];
    for (let number = 0; number < 200; number++) {
      const peer = await daemon.connect();
      const header = encode({ procedure: 1 });
      header.writeUInt32BE(MAX_LENGTH, 0);
      peer.send(header);
      announcing.push(peer);
    }
    await witnessAnswered(100);
    const grown = resident(daemon.pid) - idle;
    assert.ok(grown < SLACK, `${grown} bytes more`);
    const one = await daemon.connect();
    one.send(u32(MAX_LENGTH + 1));
    assert.equal((await one.drain()).length, 0);
    for (const peer of [...announcing, one]) peer.close();
    await witnessAnswered(100);
  });

  it('answers whole messages of 32 MiB one after the other', async () => {
    const idle = resident(daemon.pid);
    const peer = await daemon.connect();
    const payload = Buffer.concat([text(''), text('name'), u32(0), Buffer.alloc(MAX_LENGTH - 28 - 16)]);
    for (let times = 0; times < 4; times++) {
      const reply = await peer.call({ procedure: 7, payload });
      assert.match(decodeError(reply.payload).message ?? '', /have not been registered/);
    }
    peer.close();
    await witnessAnswered(100);
    const grown = resident(daemon.pid) - idle;
    assert.ok(grown < PER_CONNECTION + SLACK, `${grown} bytes more`);
  });

  it('stops reading from a peer that never reads', async () => {
    const idle = resident(daemon.pid);
    const deaf = await Promise.all(Array.from({ length: 8 }, async () => daemon.connect()));
    const request = encode(lock.release('', 'x'.repeat(60_000)));
    const stuck = await Promise.all(
      deaf.map(async (peer) => {
        peer.socket.pause();
        // Until the kernel takes no more, because the daemon has stopped reading.
        let sent = 0;
        while (peer.socket.write(request)) sent++;
        while (peer.socket.writableLength > 0 && sent < 2000) {
          const drained = await Promise.race([
            once(peer.socket, 'drain').then(() => true),
            witnessAnswered(200).then(() => false),
          ]);
          if (!drained) break;
          while (peer.socket.write(request)) sent++;
        }
        return sent;
      }),
    );
    assert.ok(
      stuck.every((sent) => sent < 2000),
      `the daemon took ${Math.max(...stuck)} requests whose replies nobody read`,
    );
    const grown = resident(daemon.pid) - idle;
    assert.ok(grown < deaf.length * PER_CONNECTION + SLACK, `${grown} bytes more`);
    // One of them reads at last, and has lost nothing.
    const [late] = deaf;
    assert.ok(late !== undefined);
    late.socket.resume();
    for (let reply = 0; reply < (stuck[0] ?? 0); reply++) assert.equal((await late.receive())?.status, 1);
    for (const peer of deaf) peer.close();
    await witnessAnswered(100);
  });

  it('reads a peer that sends without end in turn with all others', async () => {
    const flood = createConnection(daemon.socket);
    await once(flood, 'connect');
    flood.resume();
    const burst = Buffer.concat(Array.from({ length: 1000 }, () => encode(ping)));
    const more = (error?: Error | null): void => {
      if (error == null) flood.write(burst, more);
    };
    more();
    await witnessAnswered(200);
    assert.ok(flood.bytesRead > 0);
    flood.destroy();
  });
});

describe('the log', function () {
  this.timeout(60_000);

  it('takes 200 mistakes of a connection at once, as C logs them, and says how many more there were', async function () {
    skipIf(this, missingDaemon('ours'));
    const daemon = await startDaemon('ours');
    try {
      const peer = await daemon.connect();
      await peer.must(lock.register({ pid: NOBODY }));
      await peer.must(lock.restrict());
      for (let i = 0; i < 3000; i++) assert.equal((await peer.ask(lock.acquire('', '/x')))?.code, 29);
      peer.close();
      await eventually('the rest is counted', () => /had \d+ more messages, which are not logged/.test(daemon.log));
      const logged = daemon.log.match(/: error : acquireResource:\d+ : .*connection has been restricted/g)?.length ?? 0;
      const left = Number(/had (\d+) more/.exec(daemon.log)?.[1]);
      assert.ok(logged >= 200 && logged < 1000, `${logged} are logged`);
      assert.ok(logged + left >= 2000 && logged + left <= 3000);
    } finally {
      await daemon.stop();
    }
  });
});

describe('limits', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;

  afterEach(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  it('leaves newcomers beyond max_clients in the backlog, and serves each when another client leaves', async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours', { configuration: 'max_clients = 3\n' });
    const inside: Peer[] = [];
    // Connections from the start of the test may still be closing. An answered one has been accepted.
    while (inside.length < 3) {
      const peer = await daemon.connect();
      await peer.must(lock.register({ pid: NOBODY + inside.length }));
      inside.push(peer);
    }
    const waiting = await Promise.all([daemon.connect(), daemon.connect()]);
    const answers = waiting.map(async (peer, index) => peer.must(lock.register({ pid: NOBODY + 10 + index })));
    let answered = 0;
    for (const answer of answers) void answer.then(() => answered++);
    for (let i = 0; i < 20; i++) await inside[0]?.must(lock.register({ pid: NOBODY }));
    assert.equal(answered, 0);
    inside[1]?.close();
    await Promise.race(answers);
    inside[2]?.close();
    await Promise.all(answers);
    for (const peer of [...inside, ...waiting]) peer.close();
  });

  it('accepts again when descriptors are free again, and refuses no newcomer until then', async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
    const limit = descriptors(daemon.pid) + 40;
    execFileSync('prlimit', ['--pid', String(daemon.pid), `--nofile=${limit}:`]);
    const peers: Peer[] = [];
    for (let i = 0; i < 60; i++) peers.push(await daemon.connect());
    const answers = peers.map(async (peer, index) => peer.must(lock.register({ pid: NOBODY + index })));
    let answered = 0;
    for (const answer of answers) void answer.then(() => answered++);
    await eventually('descriptors run out', () => daemon.log.includes('out of descriptors'));
    assert.ok(answered < peers.length);
    execFileSync('prlimit', ['--pid', String(daemon.pid), '--nofile=1024:']);
    await Promise.all(answers);
    await eventually('newcomers are let in again', () => daemon.log.includes('let in again'));
    assert.equal(daemon.log.match(/newcomers are not let in any more/g)?.length, 1, 'said once');
    for (const peer of peers) peer.close();
  });

  it('keeps a reserve of descriptors for locks and the admin socket, however many wait to be let in', async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
    const limit = descriptors(daemon.pid) + 100;
    execFileSync('prlimit', ['--pid', String(daemon.pid), `--nofile=${limit}:${limit}`]);
    const peers: Peer[] = [];
    for (let i = 0; i < 120; i++) peers.push(await daemon.connect());
    const served = new Set<Peer>();
    for (const [index, peer] of peers.entries())
      void peer.call(lock.register({ pid: NOBODY + index })).then(
        () => served.add(peer),
        () => undefined,
      );
    await eventually('descriptors run out', () => daemon.log.includes('out of descriptors'));
    await eventually('all that were let in are served', () => served.size > 80);
    // The daemon knows the limit by now, and lets in fewer than have ended.
    const before = served.size;
    for (const peer of [...served].slice(0, 60)) {
      served.delete(peer);
      peer.close();
    }
    await eventually('newcomers are served within a second of room', () => served.size > before - 60, 2000);
    const holder = [...served][0];
    assert.ok(holder !== undefined);
    for (let looks = 0; looks < 4; looks++) {
      for (let index = 0; index < 2; index++)
        await holder.must(lock.acquire('', `${daemon.lab.directory}/${looks}-${index}`, autocreate));
      const admin = await daemon.connectAdmin();
      assert.equal(await admin.ask(statusCall), undefined);
      admin.close();
    }
    assert.equal(daemon.log.match(/newcomers are not let in any more/g)?.length, 1, 'said once');
    for (const peer of peers) peer.close();
  });
});
