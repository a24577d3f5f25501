/** Re-execution under load: clients may notice a wait only. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { type LockDaemon, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { eventually, executeAgain } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { autocreate, encode, lock, type Peer } from '../../../src/lab/wire.ts';

const NOBODY = 4_200_000; // above every pid there can be: its end kills nobody

describe('re-execution under load', function () {
  this.timeout(120_000);
  let daemon: LockDaemon;

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
  });

  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(daemon.log);
    await (daemon as LockDaemon | undefined)?.stop();
  });

  /** Registers, then acquires and releases until told to stop. Returns the number of calls; fails on any wrong reply. */
  async function busy(peer: Peer, number: number, goesOn: () => boolean): Promise<number> {
    await peer.must(lock.register({ pid: NOBODY + number, name: `busy${number}` }));
    const name = `${daemon.lab.directory}/busy${number}`;
    let calls = 0;
    while (goesOn()) {
      await peer.must(lock.acquire('', name, autocreate));
      assert.equal((await peer.ask(lock.acquire('', name, autocreate)))?.code, 87);
      await peer.must(lock.release('', name));
      calls += 3;
    }
    return calls;
  }

  it('answers every call of 16 busy connections over 50 re-executions', async () => {
    let goesOn = true;
    const peers = await Promise.all(Array.from({ length: 16 }, async () => daemon.connect()));
    const work = Promise.all(peers.map(async (peer, number) => busy(peer, number, () => goesOn)));
    for (let i = 0; i < 50; i++) await executeAgain(daemon.pid);
    goesOn = false;
    const calls = await work;
    assert.ok(calls.every((count) => count > 0));
    assert.ok(peers.every(({ ended }) => !ended));
    // Under such load the state has always changed since the proof; still no file stays behind.
    const files = readdirSync(daemon.lab.outside('/run'));
    assert.deepEqual(
      files.filter((name) => name.includes('restart')),
      [],
    );
    for (const peer of peers) peer.close();
  });

  it('survives 200 SIGUSR1 at random moments within 10 seconds, and honours the last one', async () => {
    const holder = await daemon.connect();
    await holder.must(lock.register({ pid: NOBODY, name: 'holder' }));
    await holder.must(lock.acquire('', `${daemon.lab.directory}/held`, autocreate));
    const held = daemon.locks();
    let goesOn = true;
    const peer = await daemon.connect();
    const work = busy(peer, 1, () => goesOn);
    for (let i = 0; i < 200; i++) {
      process.kill(daemon.pid, 'SIGUSR1');
      // A random moment is the point here, not an event.
      await pause(Math.random() * 100);
    }
    // After the storm, one signal restarts the daemon as ever.
    await reexecute(daemon);
    goesOn = false;
    assert.ok((await work) > 0);
    assert.equal((await holder.ask(lock.acquire('', `${daemon.lab.directory}/held`)))?.code, 87);
    await eventually('only the held lock is there', () => daemon.locks().length === held.length);
    assert.deepEqual(daemon.locks(), held);
    assert.equal(daemon.process.finished, undefined);
  });

  it('takes SIGUSR1 from its first instruction on', async () => {
    const name = `${daemon.lab.directory}/held`;
    const holder = await daemon.connect();
    await holder.must(lock.register({ pid: NOBODY, name: 'holder' }));
    await holder.must(lock.acquire('', name, autocreate));
    for (let round = 0; round < 5; round++) {
      // Straight into the successor's start, every millisecond of it.
      for (let i = 0; i < 120; i++) {
        process.kill(daemon.pid, 'SIGUSR1');
        await pause(1);
      }
    }
    await reexecute(daemon);
    assert.equal((await holder.ask(lock.acquire('', name)))?.code, 87);
  });

  it('completes a message of which half came before, and one whose descriptors are still to come', async () => {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: NOBODY, name: 'half' }));
    const name = `${daemon.lab.directory}/half`;
    const message = encode({ ...lock.acquire('', name, autocreate), serial: 77 });
    for (const cut of [1, 4, 20, 28, 40, message.length - 1]) {
      peer.send(message.subarray(0, cut));
      await reexecute(daemon);
      peer.send(message.subarray(cut));
      const reply = await peer.receive();
      assert.deepEqual([reply?.serial, reply?.status], [77, 0]);
      await peer.must(lock.release('', name));
    }
  });

  it('delivers a hundred pending replies to a slow reader, in order', async () => {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: NOBODY, name: 'slow' }));
    peer.socket.pause();
    // Refusals that repeat a name of 60 000 bytes: far more than a socket's buffers take.
    const name = 'x'.repeat(60_000);
    for (let serial = 1; serial <= 100; serial++) peer.send(encode({ ...lock.release('', name), serial }));
    for (let i = 0; i < 3; i++) await reexecute(daemon);
    peer.socket.resume();
    for (let serial = 1; serial <= 100; serial++) {
      const reply = await peer.receive();
      assert.deepEqual([reply?.serial, reply?.status], [serial, 1]);
    }
    peer.close();
  });
});
