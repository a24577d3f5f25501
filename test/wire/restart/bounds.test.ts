/** Greedy clients against a daemon with a small heap: it refuses them, lives, serves others, and keeps all over a restart. */
import assert from 'node:assert/strict';
import { linkSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '../../../src/client/client.ts';
import { inquireProgram, type LockInfo } from '../../../xdr/programs/inquire.ts';
import { type LockDaemon, programOf, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { openLab } from '../../../src/lab/trees.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { type Call, decodeError, encode, lock, type Peer, shared, u32, type WireError } from '../../../src/lab/wire.ts';

/** The heap of the daemon under test, in MiB. */
const HEAP = 32;
const NOBODY = 5_000_000; // above every pid there can be: its end kills nobody
const SMALL = '/usr/sbin/virtlockd-small';
const BATCH = 100;

/** The launcher with a smaller heap, which the daemon finds again at every restart. */
function installSmall(lab: Lab): void {
  const script = readFileSync(programOf('ours'), 'utf8')
    .replace('file=$0', `file=${programOf('ours')}`)
    .replace('--disable-sigusr1', `--disable-sigusr1 --max-old-space-size=${HEAP}`);
  assert.ok(script.includes(`=${HEAP} `) && script.includes(`file=${programOf('ours')}`));
  lab.write(SMALL, script, 0o755);
}

describe('a greedy client', function () {
  this.timeout(120_000);
  let lab: Lab;
  let daemon: LockDaemon;
  let disk: string;

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'));
    lab = await openLab();
    installSmall(lab);
    daemon = await startDaemon('ours', { lab, program: SMALL });
    disk = join(lab.directory, 'disk');
    writeFileSync(disk, '');
  });

  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(daemon.log.slice(-4000));
    await (daemon as LockDaemon | undefined)?.stop();
    await (lab as Lab | undefined)?.close();
  });

  /** Makes the calls, of each `next`, until one is refused. Returns that error and how many `next` were granted. */
  async function untilRefused(peer: Peer, next: (index: number) => Call[]): Promise<[WireError, number]> {
    for (let first = 0; ; first += BATCH) {
      const rounds = Array.from({ length: BATCH }, (_, index) => next(first + index));
      for (const calls of rounds) for (const request of calls) peer.send(encode(request));
      let granted = 0;
      let refusal: WireError | undefined;
      for (const calls of rounds) {
        for (const [index] of calls.entries()) {
          const reply = await peer.receive();
          assert.ok(reply !== undefined, `the daemon ended:\n${daemon.log.slice(-2000)}`);
          if (reply.status !== 0) refusal ??= decodeError(reply.payload);
          else if (index === calls.length - 1 && refusal === undefined) granted++;
        }
      }
      if (refusal !== undefined) return [refusal, first + granted];
    }
  }

  async function inquire<T>(ask: (client: Client) => Promise<T>): Promise<T> {
    const client = await Client.connect(daemon.adminSocket);
    try {
      return await ask(client);
    } finally {
      client.close();
    }
  }

  const allLocks = async (): Promise<LockInfo[]> =>
    inquire(async (client) => {
      const found: LockInfo[] = [];
      const filter = { lockspace: null, resource: null, path: null, pid: null, uuid: null, owner: null };
      for (let cursor = 0n, first = true; first || cursor !== 0n; first = false) {
        const page = await client.call(inquireProgram, 'locks', { filter, cursor, limit: 0, flags: 0 });
        found.push(...page.locks);
        cursor = page.next;
      }
      return found;
    });

  const memory = async (): Promise<{ used: number; most: number }> =>
    inquire(async (client) => {
      const { counters } = await client.call(inquireProgram, 'counters', { flags: 0 });
      const value = (wanted: string): number => counters.find(({ name }) => name === wanted)?.value ?? -1;
      return { used: value('lockMemory'), most: value('lockMemoryMax') };
    });

  /** Restarts that took place or were refused. */
  const restartsBegun = async (): Promise<number> =>
    inquire(async (client) => {
      const { counters } = await client.call(inquireProgram, 'counters', { flags: 0 });
      const { restarts } = await client.call(inquireProgram, 'status', { flags: 0 });
      return restarts + (counters.find(({ name }) => name === 'restartsRefused')?.value ?? 0);
    });

  const holdsOf = (locks: readonly LockInfo[]): string[] =>
    locks
      .flatMap(({ path, holds }) => holds.map(({ owner }) => `${path} ${owner.pid} ${owner.name.length} ${owner.uuid}`))
      .sort();

  /** Two restarts change nothing, every client can go on, and in the end nothing is left. */
  async function survives(): Promise<void> {
    const before = await memory();
    assert.ok(before.used > before.most * 0.7 && before.used <= before.most, `${before.used} of ${before.most}`);
    const locks = await allLocks();
    for (let round = 0; round < 2; round++) {
      await reexecute(daemon, 60_000);
      assert.deepEqual(await memory(), before);
      assert.deepEqual(holdsOf(await allLocks()), holdsOf(locks));
    }
    const releaser = await daemon.connect();
    for (const { lockspace, name, holds } of locks) {
      for (const { owner } of holds) {
        await releaser.must(lock.register({ pid: owner.pid, name: 'releaser' }));
        await releaser.must(lock.release(Buffer.from(lockspace, 'latin1'), Buffer.from(name, 'latin1')));
      }
    }
    assert.equal((await memory()).used, 0);
    await releaser.must(lock.acquire('', disk, shared));
    await releaser.must(lock.release('', disk));
    releaser.close();
    assert.equal(daemon.finished, undefined);
  }

  it('gets what its connection may have, and all together what there is', async () => {
    const [one, two, three] = [await daemon.connect(), await daemon.connect(), await daemon.connect()];
    const owners = (base: number) => (index: number) => [
      lock.register({ pid: base + index, name: `guest${index}` }),
      lock.acquire('', disk, shared),
    ];
    const [first] = await untilRefused(one, owners(NOBODY));
    assert.equal(first.code, 1);
    assert.equal(first.domain, 51);
    assert.match(
      first.message ?? '',
      /^internal error: out of memory: the locks acquired through one connection may take \d+ bytes of it$/,
    );
    // There is room for others still.
    await three.must(lock.register({ pid: NOBODY - 1, name: 'bystander' }));
    await three.must(lock.acquire('', disk, shared));
    const [second] = await untilRefused(two, owners(NOBODY + 1_000_000));
    assert.match(second.message ?? '', /: the locks of all owners may take/);
    // No client gets more, but each can register and release, and then has room for another lock.
    assert.match((await three.ask(lock.acquire('', disk, shared)))?.message ?? '', /of all owners/);
    await three.must(lock.release('', disk));
    await three.must(lock.acquire('', disk, shared));
    await survives();
  });

  it('gets what its owner may have, by whatever connection', async () => {
    const owner = { pid: NOBODY, name: 'one' };
    const peer = await daemon.connect();
    await peer.must(lock.register(owner));
    const [first] = await untilRefused(peer, () => [lock.acquire('', disk, shared)]);
    assert.match(first.message ?? '', /: the locks of one owner may take/);
    const other = await daemon.connect();
    await other.must(lock.register(owner));
    assert.match((await other.ask(lock.acquire('', disk, shared)))?.message ?? '', /: the locks of one owner may take/);
    await other.must(lock.register({ pid: NOBODY + 1, name: 'two' }));
    await other.must(lock.acquire('', disk, shared));
    await survives();
  });

  it('with an owner’s name of 64 KiB', async () => {
    const peer = await daemon.connect();
    const [error, granted] = await untilRefused(peer, (index) => [
      lock.register({ pid: NOBODY + index, name: 'x'.repeat(65_530) + String(index).padStart(6, '0') }),
      lock.acquire('', disk, shared),
    ]);
    assert.match(error.message ?? '', /: the locks acquired through one connection may take/);
    assert.ok(granted > 5);
    peer.close();
    const other = await daemon.connect();
    await untilRefused(other, (index) => [
      lock.register({ pid: NOBODY + 1000 + index, name: '\x01'.repeat(65_536) }),
      lock.acquire('', disk, shared),
    ]);
    await survives();
  });

  it('with paths that are as long as there are, of control characters', async () => {
    const part = '\x01'.repeat(200);
    let directory = join(lab.directory, part);
    while (directory.length < 3700) directory = join(directory, part);
    // A path that is too long for one call, where the lab is.
    mkdirSync(directory, { recursive: true });
    const next = (index: number): Call[] => {
      const name = join(directory, String(index));
      linkSync(disk, name);
      return [lock.register({ pid: NOBODY + index, name: 'greedy' }), lock.acquire('', name, shared)];
    };
    const [error] = await untilRefused(await daemon.connect(), next);
    assert.match(error.message ?? '', /: the locks acquired through one connection may take/);
    await survives();
  });

  it('has no more kept than the name, where more came behind its end', async () => {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: NOBODY, name: 'tail' }));
    const tail = '\0'.padEnd(60_000, 'x');
    const count = 1500;
    for (let index = 0; index < count; index++) {
      const name = `${disk}-which-has-a-name-of-some-length-${index}`;
      linkSync(disk, name);
      await peer.must(lock.acquire('', name + tail, shared));
    }
    await reexecute(daemon);
    assert.equal((await allLocks()).length, count);
    assert.ok((await memory()).used < count * 3000);
  });

  it('has no more kept of what it is refused than a path may have', async () => {
    const peer = await daemon.connect();
    for (let index = 0; index < 300; index++) {
      const name = String(index).padEnd(65_000, 'x');
      await peer.must(lock.register({ pid: NOBODY, name }));
      assert.equal((await peer.ask(lock.acquire(name, name)))?.code, 1);
    }
    await reexecute(daemon);
    const { refusals } = await inquire(async (client) =>
      client.call(inquireProgram, 'refusals', { after: 0, flags: 0 }),
    );
    assert.equal(refusals.at(-1)?.name.length, 4096);
  });

  it('gets no more lockspaces than there may be, whichever way it asks', async () => {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: NOBODY, name: 'spaces' }));
    const path = (index: number): string => lab.directory + '/.'.repeat(1500) + '/'.repeat(index + 1);
    const [error, granted] = await untilRefused(peer, (index) => [lock.createLockspace(path(index))]);
    assert.match(error.message ?? '', /^internal error: out of memory: lockspaces may take \d+ bytes of it$/);
    assert.ok(granted >= 5);
    assert.match((await peer.ask(lock.newLockspace(path(granted))))?.message ?? '', /: lockspaces may take/);
    await peer.must(lock.createLockspace(path(0)));
    await peer.must(lock.acquire('', disk));
    await reexecute(daemon);
    assert.match((await peer.ask(lock.newLockspace(path(granted))))?.message ?? '', /: lockspaces may take/);
    await peer.must(lock.release('', disk));
  });

  it('gets no more long names registered than there may be, and others register on', async () => {
    const peers: Peer[] = [];
    const long = { pid: NOBODY, name: 'x'.repeat(20_000) };
    let refused: WireError | undefined;
    while (refused === undefined) {
      const peer = await daemon.connect();
      peers.push(peer);
      refused = (await peer.ask(lock.register(long))) ?? undefined;
      assert.ok(peers.length < 100);
    }
    assert.equal(refused.domain, 7);
    assert.match(refused.message ?? '', /: long names of registered owners may take/);
    const last = peers.at(-1);
    await last?.must(lock.register({ pid: NOBODY, name: 'x'.repeat(1024) }));
    await reexecute(daemon);
    assert.match((await last?.ask(lock.register(long)))?.message ?? '', /: long names of registered owners may take/);
    // Another name in its place, or its end, makes room.
    await peers[0]?.must(lock.register({ pid: NOBODY, name: 'short' }));
    await last?.must(lock.register(long));
  });

  it('with messages under way: a restart takes them along, or is refused, and loses nothing', async () => {
    await untilRefused(await daemon.connect(), (index) => [
      lock.register({ pid: NOBODY + index, name: 'greedy' }),
      lock.acquire('', disk, shared),
    ]);
    const locks = holdsOf(await allLocks());
    // The first half of the longest useful message.
    const half = Buffer.concat([u32(131_100), Buffer.alloc(131_000)]);
    const refusals = (): number => daemon.log.split('Unable to re-execute').length - 1;
    const peers: Peer[] = [];
    while (refusals() === 0 && peers.length < 200) {
      for (let count = 0; count < 20; count++) {
        const peer = await daemon.connect();
        peer.send(half);
        peers.push(peer);
      }
      const begun = await restartsBegun();
      process.kill(daemon.pid, 'SIGUSR1');
      await eventually('the restart is done or refused', async () => (await restartsBegun()) > begun, 30_000);
      assert.equal(daemon.finished, undefined);
    }
    assert.match(daemon.log, /Unable to re-execute, service goes on: messages under way take \d+ bytes, and at most/);
    assert.ok(peers.length > 20);
    assert.deepEqual(holdsOf(await allLocks()), locks);
    for (const peer of peers) peer.close();
  });
});
