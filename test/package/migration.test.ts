/** Migrations that fail between two real libvirtds with the one lock daemon: the guest runs with its lock, or does not run. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { guestXml, makeImage } from '../../src/lab/guest.ts';
import { eventually, type Finished } from '../../src/lab/process.ts';
import { lock } from '../../src/lab/wire.ts';
import { Host } from '../campaigns/deaths/host.ts';
import { skipIf } from '../support/skip.ts';
import { missingMachine } from './machine.ts';

describe('a migration that fails', function () {
  this.timeout(120_000);
  let host: Host;
  let image: string;

  before(async function () {
    skipIf(this, missingMachine());
    host = await Host.boot();
    await host.startLibvirtd();
    await host.startPeer();
    image = makeImage(host.machine.directory, 'guest.img');
    host.write('/run/guest.xml', guestXml({ name: 'guest', disks: [{ image }] }));
    await host.must('virsh', 'create', '/run/guest.xml');
  });

  after(async () => {
    await (host as Host | undefined)?.stop();
  });

  async function migrate(): Promise<Finished> {
    const socket = `unix://${join(host.machine.directory, 'migration')}`;
    // Unsafe says libvirt, because the disk is cached. The two hosts have one cache.
    return host.main.virsh('migrate', '--live', '--unsafe', 'guest', host.peer.uri, '--migrateuri', socket);
  }

  const stateOf = async (one: Host['main']): Promise<string> => (await one.virsh('domstate', 'guest')).stdout.trim();

  /** The guest runs where it was, alone, and its lock is its own. */
  async function assertRunsWithItsLock(): Promise<void> {
    assert.deepEqual([await stateOf(host.main), await stateOf(host.peer)], ['running', '']);
    assert.match(await host.must('virt-lockctl', 'health'), /^OK: 1 guest, 1 lock/);
    assert.match(await host.must('virt-lockctl', 'who', image), /^guest \(pid \d+\) holds an exclusive lock/);
  }

  it('as its destination is killed on the way: the guest goes on with its lock', async () => {
    const migration = migrate();
    const pid = await eventually('there is a destination', () => host.peer.pidOf('guest'));
    await host.must('kill', '-9', String(pid));
    assert.notEqual((await migration).code, 0);
    await assertRunsWithItsLock();
  });

  it('as another owner takes the disk in the gap: the guest stays paused until it is free', async () => {
    const rival = await host.connect();
    await rival.must(lock.register({ pid: 5_000_000, name: 'rival' }));
    const over = new AbortController();
    const migration = migrate().finally(() => {
      over.abort();
    });
    // The source gives the lock up before the destination asks for it.
    let granted = false;
    while (!granted && !over.signal.aborted) granted = (await rival.ask(lock.acquire('', image))) === undefined;
    assert.ok(granted, 'the rival asked within the gap');
    assert.notEqual((await migration).code, 0);
    assert.deepEqual([await stateOf(host.main), await stateOf(host.peer)], ['paused', '']);
    assert.match(await host.must('virt-lockctl', 'who', image), /^rival \(pid \d+/);
    assert.equal((await host.main.virsh('resume', 'guest')).code, 1);
    await rival.must(lock.release('', image));
    rival.close();
    assert.equal((await host.main.virsh('resume', 'guest')).code, 0);
    await assertRunsWithItsLock();
  });

  it('does not keep the next one from succeeding, in which the lock goes along', async () => {
    const moved = await migrate();
    assert.equal(moved.code, 0, moved.stderr);
    assert.deepEqual([await stateOf(host.main), await stateOf(host.peer)], ['', 'running']);
    assert.match(await host.must('virt-lockctl', 'check'), /^OK: 1 lock,/);
  });
});
