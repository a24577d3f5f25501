import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { NIL_UUID, unknownOwner } from '../../../src/lockspace/owner.ts';
import { startTimeOf } from '../../../src/proc/processes.ts';
import { LockType, posix } from '../../../src/posix/posix.ts';
import { adoptState } from '../../../src/restart/adopt.ts';
import { EMPTY_STATE, type ResourceState } from '../../../src/restart/document.ts';
import { parseDocument } from '../../../src/restart/parse.ts';
import { makeDaemon } from '../support/daemon.ts';
import { until } from '../support/link.ts';
import { lockOf, OtherProcess, temporaryDirectory } from '../support/locks.ts';

const SHARED = 1;

describe('taking over locks', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let daemon: Daemon;
  let guest: ChildProcess;

  beforeEach(async () => {
    directory = temporaryDirectory();
    daemon = makeDaemon();
    guest = spawn('sleep', ['100'], { stdio: 'ignore' });
    await once(guest, 'spawn');
  });

  afterEach(async () => {
    for (const resource of [...daemon.lockspaces.resources()]) daemon.lockspaces.endResource(resource);
    guest.kill();
    await daemon.ownerEnds.settled();
    directory.remove();
  });

  const at = (name: string): string => path.join(directory.path, name);
  const open = (name: string): number => posix.openInode(at(name), 2);
  const held = (): string[] => [...daemon.lockspaces.resources()].map(({ name }) => path.basename(name));

  /** A resource as a C daemon describes it. */
  function resource(name: string, fd: number, flags = 0): ResourceState {
    return { name: at(name), path: at(name), fd, lockHeld: true, flags, owners: [guest.pid ?? -1] };
  }

  /** As this daemon describes it: with what tells the guest from a later process of its pid. */
  function ourResource(name: string, fd: number): ResourceState {
    const start = startTimeOf(guest.pid ?? -1) ?? -1;
    return { ...resource(name, fd), 'x-holds': [{ id: 1, name: 'vm', uuid: NIL_UUID, since: 0, client: 0, start }] };
  }

  function adopt(...resources: ResourceState[]): void {
    const document = parseDocument({ ...EMPTY_STATE, defaultLockspace: { resources } });
    adoptState(daemon, { document, late: null });
  }

  async function assertEnded(): Promise<void> {
    if (guest.signalCode === null) await once(guest, 'exit');
    assert.equal(guest.signalCode, 'SIGTERM');
  }

  it('keeps an exclusive one for writing that C granted beside a shared one of the same file', () => {
    writeFileSync(at('a'), '');
    for (const name of ['b', 'c']) linkSync(at('a'), at(name));
    const [shared, exclusive] = [open('a'), open('b')];
    posix.setlk(exclusive, LockType.WRITE, 0, 1);
    adopt(resource('a', shared, SHARED), resource('b', exclusive));
    assert.equal(lockOf(at('a')), 'WRITE');
    assert.throws(() => {
      daemon.lockspaces.acquire(daemon.lockspaces.default, at('c'), SHARED, {
        owner: unknownOwner(5_000_001),
        since: 0,
        client: 0,
      });
    }, /is locked/);
    assert.equal(guest.signalCode, null);
  });

  for (const order of [
    ['lost', 'kept'],
    ['kept', 'lost'],
  ]) {
    it(`ends the owner of a lost one, and with it all that it holds: ${order.join(', ')}`, async () => {
      for (const name of order) writeFileSync(at(name), '');
      const other = await OtherProcess.lock(at('lost'), 'WRITE');
      adopt(...order.map((name) => ourResource(name, open(name))));
      await assertEnded();
      await until('all is released', () => daemon.ownerEnds.count === 0);
      assert.deepEqual(held(), []);
      assert.equal(lockOf(at('kept')), undefined);
      await other.end();
    });

    it(`signals no guest of which a C daemon left only the pid: ${order.join(', ')}`, async () => {
      for (const name of order) writeFileSync(at(name), '');
      const other = await OtherProcess.lock(at('lost'), 'WRITE');
      adopt(...order.map((name) => resource(name, open(name))));
      assert.deepEqual(held().sort(), ['kept', 'lost']);
      assert.equal(lockOf(at('kept')), 'WRITE');
      assert.equal(guest.signalCode, null);
      guest.kill();
      await until('nobody has its pid', () => daemon.ownerEnds.count === 0);
      assert.deepEqual(held(), []);
      await other.end();
    });

    it(`does so as well when a descriptor is not the file: ${order.join(', ')}`, async () => {
      writeFileSync(at('kept'), '');
      const kept = open('kept');
      const closed = open('kept');
      posix.close(closed);
      adopt(...order.map((name) => ourResource(name, name === 'kept' ? kept : closed)));
      await assertEnded();
      await until('all is released', () => daemon.ownerEnds.count === 0);
      assert.deepEqual(held(), []);
    });
  }
});
