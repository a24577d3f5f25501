import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { ownState, restoreOwnState } from '../../../src/daemon/state.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { closeUnlessHeld, findHeld, isHeld } from '../../../src/lockspace/files.ts';
import { NIL_UUID, unknownOwner } from '../../../src/lockspace/owner.ts';
import { startTimeOf } from '../../../src/proc/identity.ts';
import { LockType, posix } from '../../../src/posix/posix.ts';
import { adoptState } from '../../../src/restart/adopt.ts';
import { Confirmation } from '../../../src/restart/confirm.ts';
import type { ResourceState } from '../../../src/lockspace/state.ts';
import { EMPTY_SERVER, EMPTY_STATE } from '../../../src/restart/empty-state.ts';
import { client } from '../../../src/programs/fuzz/client.ts';
import { parseDocument } from '../../../src/restart/parse.ts';
import { makeDaemon } from '../support/daemon.ts';
import { until } from '../support/link.ts';
import { lockOf, OtherProcess, temporaryDirectory } from '../support/locks.ts';
import { World } from '../support/processes.ts';

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
    await daemon.ownerReaper.allKilled();
    directory.remove();
  });

  const at = (name: string): string => path.join(directory.path, name);
  const open = (name: string): number => posix.openInode(at(name), 2);
  const held = (): string[] => [...daemon.lockspaces.resources()].map(({ name }) => path.basename(name));

  /** A resource as a C daemon describes it. */
  function resource(name: string, fd: number, flags = 0): ResourceState {
    return { name: at(name), path: at(name), fd, lockHeld: true, flags, owners: [guest.pid ?? -1] };
  }

  /** As this daemon describes it: with the guest's start time. */
  function ourResource(name: string, fd: number): ResourceState {
    const start = startTimeOf(guest.pid ?? -1) ?? -1;
    return { ...resource(name, fd), 'x-holds': [{ id: 1, name: 'vm', uuid: NIL_UUID, since: 0, client: 0, start }] };
  }

  async function adopt(...resources: ResourceState[]): Promise<void> {
    const document = parseDocument({ ...EMPTY_STATE, defaultLockspace: { resources } });
    adoptState(daemon, { document, late: null });
    await new Confirmation(daemon).run();
  }

  async function assertEnded(): Promise<void> {
    if (guest.signalCode === null) await once(guest, 'exit');
    assert.equal(guest.signalCode, 'SIGTERM');
  }

  for (const isLocal of [true, false, undefined]) {
    const what = isLocal === undefined ? 'unknown' : isLocal ? 'its own' : 'another';
    it(`goes by the age of processes where the namespace of a C daemon's clients is ${what}, also later: ${isLocal ?? false}`, () => {
      const world = new World();
      world.local = isLocal;
      const pair = new Int32Array(2);
      client.pair(pair);
      const [near = -1, far = -1] = pair;
      const sock = { fd: near, errfd: -1, pid: 0, isClient: true, unlinkUNIX: false };
      const privateData = { restricted: false, ownerPid: 0, ownerId: 0, ownerName: '', ownerUUID: NIL_UUID };
      const common = { auth: 0, auth_pending: false, readonly: false, nrequests_max: 1, conn_time: 0 };
      const virtlockd = { ...EMPTY_SERVER, next_client_id: 8, clients: [{ id: 7, ...common, sock, privateData }] };
      const daemons = { servers: { admin: EMPTY_SERVER, virtlockd } };
      const adopted = makeDaemon(world);
      adoptState(adopted, { document: parseDocument({ ...EMPTY_STATE, daemon: daemons }), late: null });
      const origin = { clients: 8, ...(isLocal === true ? { start: 500 } : {}) };
      assert.deepEqual(adopted.ownerReaper.origin, origin);
      const next = makeDaemon(new World());
      restoreOwnState(next, ownState(adopted));
      assert.deepEqual(next.ownerReaper.origin, origin);
      restoreOwnState(next, { restarts: 0, started: 0 });
      assert.deepEqual(next.ownerReaper.origin, { clients: 0 }, 'an older release hands on nothing');
      for (const connection of adopted.lockServer.adoptAll().values()) connection.close();
      client.close(far);
    });
  }

  it('keeps an exclusive one for writing that C granted beside a shared one of the same file', async () => {
    writeFileSync(at('a'), '');
    for (const name of ['b', 'c']) linkSync(at('a'), at(name));
    const [shared, exclusive] = [open('a'), open('b')];
    posix.setlk(exclusive, LockType.WRITE, 0, 1);
    await adopt(resource('a', shared, SHARED), resource('b', exclusive));
    assert.equal(lockOf(at('a')), 'WRITE');
    assert.throws(() => {
      daemon.lockspaces.acquire(daemon.lockspaces.default, at('c'), modeOf(SHARED), {
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
      await adopt(...order.map((name) => ourResource(name, open(name))));
      await assertEnded();
      await until('all is released', () => daemon.ownerReaper.count === 0);
      assert.deepEqual(held(), []);
      assert.equal(lockOf(at('kept')), undefined);
      await other.end();
    });

    it(`signals no guest of which a C daemon left only the pid: ${order.join(', ')}`, async () => {
      for (const name of order) writeFileSync(at(name), '');
      const other = await OtherProcess.lock(at('lost'), 'WRITE');
      await adopt(...order.map((name) => resource(name, open(name))));
      assert.deepEqual(held().sort(), ['kept', 'lost']);
      assert.equal(lockOf(at('kept')), 'WRITE');
      assert.equal(guest.signalCode, null);
      guest.kill();
      await until('nobody has its pid', () => daemon.ownerReaper.count === 0);
      assert.deepEqual(held(), []);
      await other.end();
    });
  }

  describe('that nobody has asked for yet', () => {
    const owner = 5_000_001;
    const names = ['a', 'b', 'c'];

    function adoptLater(): void {
      const resources = names.map((name) => {
        writeFileSync(at(name), '');
        const fd = open(name);
        posix.setlk(fd, LockType.WRITE, 0, 1);
        return { ...resource(name, fd), owners: [owner] };
      });
      adoptState(daemon, { document: parseDocument({ ...EMPTY_STATE, defaultLockspace: { resources } }), late: null });
    }

    const asks: Record<string, () => unknown> = {
      'how many there are': () => daemon.lockspaces.count,
      'how many hold one': () => daemon.lockspaces.ownerCount * 3,
      'what an owner holds': () => daemon.lockspaces.heldBy(owner).size,
      'for the default lockspace': () => daemon.lockspaces.find('')?.resources.size,
      'for all lockspaces': () => [...daemon.lockspaces][0]?.resources.size,
      'for all of them': () => [...daemon.lockspaces.resources()].length,
      'whether a file is held': () => names.filter((name) => isHeld(at(name))).length,
      'who holds a file': () => names.flatMap((name) => findHeld(at(name))).length,
      'to close a descriptor': () => {
        const descriptors = names.map(open);
        descriptors.forEach(closeUnlessHeld);
        return descriptors.filter((fd) => posix.fstatInode(fd) === 0).length;
      },
    };
    for (const [what, ask] of Object.entries(asks)) {
      it(`are adopted before anything else when a client asks ${what}`, () => {
        adoptLater();
        assert.equal(ask(), 3);
        assert.deepEqual(
          names.map((name) => lockOf(at(name))),
          ['WRITE', 'WRITE', 'WRITE'],
        );
      });
    }

    it('are not mistaken for the file that a client asks for', () => {
      adoptLater();
      writeFileSync(at('other'), '');
      assert.equal(isHeld(at('other')), false);
      assert.ok(names.every((name) => isHeld(at(name))));
    });

    it('are adopted one by one when there is time, and are nothing new to anybody', () => {
      daemon.start();
      adoptLater();
      let parts = 0;
      while (daemon.lockspaces.adoptNext()) parts++;
      assert.equal(parts, 3);
      assert.equal(daemon.inquiry.counters.acquired, 0);
      assert.deepEqual(held().sort(), names);
    });

    it('are all those that can be read when one cannot', () => {
      writeFileSync(at('a'), '');
      const state = resource('a', open('a'));
      const document = parseDocument(EMPTY_STATE);
      const resources = {
        *[Symbol.iterator](): Generator<ResourceState> {
          yield state;
          throw new Error('a defect');
        },
      };
      adoptState(daemon, { document: { ...document, lockspaces: [{ directory: '', resources }] }, late: null });
      assert.deepEqual(held(), ['a']);
    });
  });
});
