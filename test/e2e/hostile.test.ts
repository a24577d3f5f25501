/** Peers that mean harm, or are broken: everybody else is answered meanwhile, and memory stays bounded. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { type LockDaemon, startDaemon } from '../lab/daemon.ts';
import { eventually } from '../lab/process.ts';
import { missingDaemon, skipIf } from '../lab/requirements.ts';
import { type Message, type Peer, decodeError, encode, lock, text, u32 } from '../lab/wire.ts';
import { underTest } from './under-test.ts';

const mebibyte = 1 << 20;
/** The longest message there is: its length word says 32 MiB and 4 bytes. */
const longest = 32 * mebibyte + 4;

/** What resident memory may ever grow by, over that of a daemon that has served its first call (about 20 MiB are seen). */
const bound = 64 * mebibyte;

describe(`hostile peers, lock daemon: ${underTest}`, function () {
  this.timeout(120_000);
  let daemon: LockDaemon;
  let witness: Peer;
  let base: number;
  let answered: number;
  let watching: AbortController;
  let watch: Promise<void>;
  let seed: number;

  /** A field of /proc/PID/status, in bytes. */
  const memory = (field: 'VmRSS' | 'VmHWM'): number => {
    const status = readFileSync(`/proc/${daemon.pid}/status`, 'latin1');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
  };

  /** The same numbers in every run. */
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const garbage = (length: number): Buffer => Buffer.from(Array.from({ length }, () => random(256)));

  beforeEach(async function () {
    skipIf(this, missingDaemon(underTest));
    seed = 1;
    daemon = await startDaemon(underTest);
    witness = await daemon.connect();
    await witness.must(lock.register({ pid: 5_000_000 }));
    base = memory('VmRSS');
    answered = 0;
    watching = new AbortController();
    watch = (async (): Promise<void> => {
      while (!watching.signal.aborted) {
        await witness.must(lock.createLockspace(''));
        answered++;
      }
    })();
  });

  afterEach(async () => {
    (watching as AbortController | undefined)?.abort();
    await (watch as Promise<void> | undefined);
    (witness as Peer | undefined)?.close();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  /** The witness gets `more` further answers, and the daemon has not grown beyond the bound at any time. */
  async function well(more = 100): Promise<void> {
    const before = answered;
    await Promise.race([eventually('the witness is answered', () => answered >= before + more, 30_000), watch]);
    assert.ok(answered >= before + more, 'the witness lost its connection');
    const growth = memory('VmHWM') - base;
    assert.ok(growth < bound, `resident memory grew by ${Math.round(growth / mebibyte)} MiB`);
  }

  it('survives 300 connections of random bytes', async () => {
    const peers: Peer[] = [];
    for (let number = 0; number < 300; number++) {
      const peer = await daemon.connect();
      peers.push(peer);
      // A third is noise from the first byte, a third a message of noise, a third a call of the lock program with noise in it.
      const noise = garbage(random(4000));
      const kind = number % 3;
      const framed = Buffer.concat([u32(noise.length + 4), noise]);
      const call = encode({ procedure: random(10), serial: random(2 ** 32), payload: noise });
      peer.send([noise, framed, call][kind] ?? noise);
      if (number % 2 === 0) peer.end();
    }
    await well();
    for (const peer of peers) peer.close();
    await well();
  });

  it('answers messages of 32 MiB, and holds no memory for those that are only announced', async () => {
    const announcing: Peer[] = [];
    for (let number = 0; number < 200; number++) {
      const peer = await daemon.connect();
      peer.send(Buffer.concat([u32(longest), garbage(24)]));
      announcing.push(peer);
    }
    await well();
    const large = await daemon.connect();
    const payload = Buffer.concat([text(''), text('name'), u32(0), Buffer.alloc(longest - 28 - 16)]);
    for (let times = 0; times < 4; times++) {
      const reply = await large.call({ procedure: 7, payload });
      assert.match(decodeError(reply.payload).message ?? '', /have not been registered/);
    }
    await well();
    large.send(u32(longest + 1));
    assert.equal((await large.drain()).length, 0);
    for (const peer of [...announcing, large]) peer.close();
    await well();
  });

  it('takes no more from peers that never read', async () => {
    const peers: Peer[] = [];
    // Every request is answered with an error of some hundred bytes.
    const request = encode({ ...lock.acquire('', 'name'), serial: 1 });
    const requests = Buffer.concat(Array.from({ length: 20_000 }, () => request));
    for (let number = 0; number < 20; number++) {
      const peer = await daemon.connect();
      peer.socket.pause();
      peer.send(requests);
      peers.push(peer);
    }
    await well(1000);
    // What could not be sent waits here: the daemon has not swallowed it.
    for (const peer of peers) assert.ok(peer.socket.writableLength > 0);
    // One of them reads at last, and has lost nothing.
    const [late] = peers;
    assert.ok(late !== undefined);
    late.socket.resume();
    for (let number = 0; number < 20_000; number++) {
      const reply: Message | undefined = await late.receive();
      assert.equal(reply?.status, 1);
      if (number % 1000 === 0) await turn();
    }
    for (const peer of peers) peer.close();
    await well();
  });
});
