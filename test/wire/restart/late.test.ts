/** Clients that are idle when the daemon executes itself again: they are adopted when they call. */
import assert from 'node:assert/strict';
import { type LockDaemon, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { eventually, executeAgain } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { adminProgram, autocreate, lock, type Peer, text, u32 } from '../../../src/lab/wire.ts';

const NOBODY = 4_200_000; // above every pid there can be: its end kills nobody
const CLIENTS = 300;

describe('clients that are idle across a re-execution', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let peers: Peer[];

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
    peers = await Promise.all(Array.from({ length: CLIENTS }, async () => daemon.connect()));
    for (const [index, peer] of peers.entries()) await peer.must(lock.register({ pid: NOBODY + index }));
  });

  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(daemon.log);
    await (daemon as LockDaemon | undefined)?.stop();
  });

  const name = (index: number): string => `${daemon.lab.directory}/lock${index}`;

  /** Ids of the lock server's clients, as the admin program lists them. */
  async function ids(): Promise<bigint[]> {
    const control = await daemon.connectAdmin();
    const server = text('virtlockd');
    const payload = Buffer.concat([server, u32(1), u32(0)]);
    const reply = await control.call({ program: adminProgram, procedure: 8, payload });
    control.close();
    const size = server.length + 20;
    const count = reply.payload.readUInt32BE(0);
    return Array.from({ length: count }, (_, index) => reply.payload.readBigUInt64BE(4 + index * size + server.length));
  }

  it('may call in any order, and are listed in the order they came', async () => {
    const before = await ids();
    for (const order of [peers.slice().reverse(), peers]) {
      await executeAgain(daemon.pid);
      await Promise.all(order.slice(0, 3).map(async (peer) => peer.ask(lock.release('', 'none'))));
      assert.deepEqual(await ids(), before);
    }
    for (const [index, peer] of peers.entries()) await peer.must(lock.acquire('', name(index), autocreate));
  });

  it('count against the limit before they have called', async () => {
    const before = await ids();
    await executeAgain(daemon.pid);
    const late = await daemon.connect();
    await late.must(lock.register({ pid: NOBODY + CLIENTS }));
    const [last] = (await ids()).slice(-1);
    assert.ok(last !== undefined && last > (before.at(-1) ?? 0n));
  });

  it('may leave before they are adopted', async () => {
    const going = executeAgain(daemon.pid);
    for (const peer of peers.slice(0, 100)) peer.close();
    await going;
    await eventually('they are gone', async () => (await ids()).length === CLIENTS - 100);
    for (const [index, peer] of peers.slice(100).entries()) await peer.must(lock.acquire('', name(index), autocreate));
  });

  it('stay over many re-executions without a word', async () => {
    const before = await ids();
    for (let round = 0; round < 5; round++) await reexecute(daemon);
    assert.deepEqual(await ids(), before);
    assert.doesNotMatch(daemon.log, /descriptor/i);
    for (const [index, peer] of peers.entries()) await peer.must(lock.acquire('', name(index), autocreate));
  });
});
