/** The inquire program on the wire: who may, pages under change, events, what survives a re-execution. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { linkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { XdrReader } from '../../../xdr/codec.ts';
import { Client } from '../../../src/client/client.ts';
import { RemoteFailure } from '../../../src/client/errors.ts';
import {
  type Change,
  changesEvent,
  ChangeType,
  FileState,
  HOLDS_MAX,
  inquireProgram,
  type LockFilter,
  type LockInfo,
  LocksFlag,
  PAGE_MAX,
  type RefusalInfo,
} from '../../../xdr/programs/inquire.ts';
import { AcquireFlag } from '../../../xdr/programs/lock.ts';
import { type LockDaemon, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { decodeError, encode, lock, type Peer, shared, text, u32 } from '../../../src/lab/wire.ts';

const every: LockFilter = { lockspace: null, resource: null, path: null, pid: null, uuid: null, owner: null };

describe('the inquire program', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let client: Client;
  let holder: Peer;
  const at = (name: string): string => join(daemon.lab.directory, name);

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
    client = await Client.connect(daemon.adminSocket);
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: 5_000_000, id: 3, name: 'holder', uuid: Buffer.alloc(16, 0xab) }));
  });

  after(async () => {
    (client as Client | undefined)?.close();
    (holder as Peer | undefined)?.close();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  const list = async (filter: Partial<LockFilter> = {}, flags = 0): Promise<LockInfo[]> => {
    const found: LockInfo[] = [];
    let cursor = 0n;
    do {
      const page = await client.call(inquireProgram, 'locks', {
        filter: { ...every, ...filter },
        cursor,
        limit: 0,
        flags,
      });
      assert.ok(page.locks.length <= PAGE_MAX);
      found.push(...page.locks);
      cursor = page.next;
    } while (cursor !== 0n);
    return found;
  };

  it('is answered on the admin socket only, and as any unknown program by a C daemon', async function () {
    const call = { program: 0x696e7175, procedure: 6, payload: u32(0) };
    const unknown = /^Cannot find program 1768845685 version 1$/;
    assert.match((await holder.ask(call))?.message ?? '', unknown);
    const admin = await daemon.connectAdmin();
    assert.equal((await admin.call(call)).status, 0);
    admin.close();
    if (missingDaemon('9.0.0') !== undefined) return;
    const c = await startDaemon('9.0.0');
    try {
      const peer = await c.connectAdmin();
      assert.match((await peer.ask(call))?.message ?? '', unknown);
      peer.close();
    } finally {
      await c.stop();
    }
  });

  it('refuses flags, cursors and bytes that it does not know, and goes on', async () => {
    const failure = async (call: Promise<unknown>): Promise<RemoteFailure> => {
      const error: unknown = await call.then(
        () => undefined,
        (reason: unknown) => reason,
      );
      assert.ok(error instanceof RemoteFailure);
      return error;
    };
    const args = { filter: every, cursor: 99n, limit: 0, flags: 0 };
    assert.match((await failure(client.call(inquireProgram, 'locks', args))).message, /cursor 99 is not known/);
    const flags = await failure(client.call(inquireProgram, 'status', { flags: 4 }));
    assert.equal(flags.message, 'unsupported flags (0x4) in function inquireStatus');
    const admin = await daemon.connectAdmin();
    admin.send(encode({ program: 0x696e7175, procedure: 1, serial: 9, payload: text('x') }));
    const reply = await admin.receive();
    assert.equal(decodeError(reply?.payload ?? Buffer.alloc(0)).message, 'Unable to decode message payload');
    admin.close();
    assert.equal((await client.call(inquireProgram, 'status', { flags: 0 })).pid, daemon.pid);
  });

  it('tells everything of a lock', async () => {
    writeFileSync(at('disk'), '');
    const before = Date.now();
    await holder.must(lock.acquire('', at('disk')));
    const [found, ...others] = await list({ path: at('disk') }, LocksFlag.LOOK_AT_FILES);
    assert.ok(found);
    assert.equal(others.length, 0);
    const [hold] = found.holds;
    assert.deepEqual(hold?.owner, {
      pid: 5_000_000,
      id: 3,
      name: 'holder',
      uuid: 'abababab-abab-abab-abab-abababababab',
      identity: 0,
    });
    assert.ok(hold.since >= before && hold.since <= Date.now());
    assert.equal(found.inode, BigInt(daemon.locks().find(({ inode }) => BigInt(inode) === found.inode)?.inode ?? 0));
    assert.deepEqual([found.path, found.flags, found.file], [at('disk'), 0, FileState.SAME]);
    await holder.must(lock.release('', at('disk')));
  });

  it('finds the locks of a file by its name, by its other names, and by its hash', async () => {
    const space = at('space');
    const hash = createHash('sha256').update(at('file')).digest('hex');
    writeFileSync(at('file'), '');
    linkSync(at('file'), at('other'));
    linkSync(at('file'), at('third'));
    await holder.must(lock.createLockspace(space));
    for (const name of ['file', 'other']) await holder.must(lock.acquire('', at(name), shared));
    await holder.must(lock.acquire(space, hash, AcquireFlag.AUTOCREATE));
    const namesOf = async (filter: Partial<LockFilter>): Promise<string[]> =>
      (await list(filter)).map(({ name }) => name).sort();
    assert.deepEqual(await namesOf({ path: at('file') }), [at('file'), at('other'), hash].sort());
    assert.deepEqual(await namesOf({ path: at('third') }), [at('file'), at('other')].sort());
    assert.deepEqual(await namesOf({ path: at('file'), lockspace: space }), [hash]);
    assert.deepEqual(await namesOf({ path: `${space}/${hash}` }), [hash]);
    assert.deepEqual(await namesOf({ path: at('none') }), []);
    for (const name of ['file', 'other']) await holder.must(lock.release('', at(name)));
    await holder.must(lock.release(space, hash));
  });

  it('lists in pages what stays exactly once, while others come and go', async () => {
    const names = Array.from({ length: 2500 }, (_, index) => at(`many${index}`));
    writeFileSync(at('many'), '');
    for (const name of names) {
      linkSync(at('many'), name);
      await holder.must(lock.acquire('', name, shared));
    }
    const seen: string[] = [];
    let cursor = 0n;
    let round = 0;
    do {
      const page = await client.call(inquireProgram, 'locks', { filter: every, cursor, limit: 100, flags: 0 });
      seen.push(...page.locks.map(({ name }) => name));
      cursor = page.next;
      for (let index = round; index < names.length; index += 50) {
        if (index % 2 === 1) await holder.must(lock.release('', names[index] ?? ''));
      }
      round++;
    } while (cursor !== 0n && round < 50);
    assert.equal(new Set(seen).size, seen.length);
    names.forEach((name, index) => {
      if (index % 2 === 0) assert.ok(seen.includes(name));
    });
    for (const { name } of await list({ pid: 5_000_000 })) await holder.must(lock.release('', name));
    assert.deepEqual(await list(), []);
  });

  it('cuts a lock of very many holds into several entries', async () => {
    writeFileSync(at('crowd'), '');
    const count = 2 * HOLDS_MAX + 7;
    for (let hold = 0; hold < count; hold++) await holder.must(lock.acquire('', at('crowd'), shared));
    const entries = await list({ resource: at('crowd') });
    assert.deepEqual(
      entries.map(({ firstHold, holds, holdCount }) => [firstHold, holds.length, holdCount]),
      [
        [0, HOLDS_MAX, count],
        [HOLDS_MAX, HOLDS_MAX, count],
        [2 * HOLDS_MAX, 7, count],
      ],
    );
    for (let hold = 0; hold < count; hold++) await holder.must(lock.release('', at('crowd')));
  });

  it('sends events to subscribers, also after the daemon executed itself', async () => {
    const watcher = await Client.connect(daemon.adminSocket);
    const changes: Change[] = [];
    watcher.onEvent(inquireProgram, changesEvent.number, changesEvent.payload, (event) => {
      changes.push(...event.changes);
    });
    const seen = async (type: Change['type']): Promise<Change> =>
      eventually(`change ${type}`, () => changes.find((change) => change.type === type));
    await watcher.call(inquireProgram, 'subscribe', { flags: 0 });
    writeFileSync(at('watched'), '');
    await holder.must(lock.acquire('', at('watched')));
    const acquired = await seen(ChangeType.ACQUIRED);
    assert.ok(acquired.type === ChangeType.ACQUIRED && acquired.value.lock.path === at('watched'));
    await reexecute(daemon);
    await seen(ChangeType.RESUMED);
    await holder.must(lock.release('', at('watched')));
    await seen(ChangeType.RELEASED);
    await watcher.call(inquireProgram, 'unsubscribe', { flags: 0 });
    const status = await watcher.call(inquireProgram, 'status', { flags: 0 });
    assert.deepEqual([status.subscribers, status.restarts], [0, 1]);
    watcher.close();
  });

  it('remembers refusals and counters over a re-execution, and the next one goes on counting', async () => {
    writeFileSync(at('wanted'), '');
    const refused = async (): Promise<void> => {
      assert.match((await holder.ask(lock.acquire('', at('wanted'))))?.message ?? '', /is locked/);
    };
    const ask = async (): Promise<{ refusals: RefusalInfo[]; counters: Map<string, number> }> => {
      const { refusals } = await client.call(inquireProgram, 'refusals', { after: 0, flags: 0 });
      const { counters } = await client.call(inquireProgram, 'counters', { flags: 0 });
      return {
        refusals,
        // Looking at the daemon connects.
        counters: new Map(
          counters.filter(({ name }) => !name.endsWith('connected')).map(({ name, value }) => [name, value]),
        ),
      };
    };
    await holder.must(lock.acquire('', at('wanted')));
    await refused();
    const before = await ask();
    assert.equal(before.refusals.at(-1)?.name, at('wanted'));
    await reexecute(daemon);
    assert.deepEqual(await ask(), before);
    await reexecute(daemon);
    await refused();
    const after = await ask();
    assert.deepEqual(after.refusals.slice(0, -1), before.refusals);
    assert.equal(after.refusals.at(-1)?.sequence, (before.refusals.at(-1)?.sequence ?? 0) + 1);
    assert.equal(after.counters.get('refusedHeld'), (before.counters.get('refusedHeld') ?? 0) + 1);
    await holder.must(lock.release('', at('wanted')));
  });

  it('tells a subscriber who does not read what it missed, and holds nothing for it', async () => {
    const slow = await daemon.connectAdmin();
    await slow.must({ program: 0x696e7175, procedure: 7, payload: u32(0) });
    slow.socket.pause();
    writeFileSync(at('busy'), '');
    const status = async (): Promise<{ residentMemory: number }> => client.call(inquireProgram, 'status', { flags: 0 });
    const name = at('busy');
    for (let round = 0; round < 6000; round++) {
      await holder.must(lock.acquire('', name));
      await holder.must(lock.release('', name));
    }
    const clients = await client.call(inquireProgram, 'clients', { cursor: 0n, limit: 0, flags: 0 });
    const waiting = clients.clients.find(({ subscribed }) => subscribed);
    assert.ok(waiting !== undefined && waiting.unsent > 0 && waiting.unsent < 2 * 1024 * 1024);
    assert.ok((await status()).residentMemory < 512 * 1024 * 1024);
    slow.socket.resume();
    let missed = 0;
    while (missed === 0) {
      const event = await slow.receive();
      assert.ok(event !== undefined);
      // A list of one change, whose type is 6.
      if (event.payload.readUInt32BE(0) === 1 && event.payload.readInt32BE(4) === ChangeType.MISSED) {
        missed = Number(event.payload.readBigUInt64BE(8));
      }
    }
    assert.ok(missed > 0 && missed < 12_000);
    slow.close();
  });

  it('reports that also when the daemon executes itself in between', async () => {
    const slow = await daemon.connectAdmin();
    await slow.must({ program: 0x696e7175, procedure: 7, payload: u32(0) });
    slow.socket.pause();
    writeFileSync(at('busier'), '');
    for (let round = 0; round < 6000; round++) {
      await holder.must(lock.acquire('', at('busier')));
      await holder.must(lock.release('', at('busier')));
    }
    await reexecute(daemon);
    slow.socket.resume();
    let told = 0;
    let missed = 0;
    while (missed === 0) {
      const event = await slow.receive();
      assert.ok(event !== undefined);
      for (const change of changesEvent.payload.read(new XdrReader(event.payload)).changes) {
        if (change.type === ChangeType.MISSED) missed += change.value;
        else told++;
      }
    }
    assert.ok(told + missed >= 12_000, `${told} told and ${missed} missed`);
    slow.close();
  });
});
