/** The group inquire: an extension of this project, and the answers of daemons without it. */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { type WrittenCheck, writtenCheck } from '../../check.ts';
import { encode, lock } from '../../../../lab/wire.ts';
import { otherUserHears } from '../wire/peers.ts';
import { eventChecks } from './events.ts';
import { all, inquireCall, inquireCheck, isUnknownProgram, rawCall } from './inquirer.ts';
import { listChecks } from './lists.ts';

const status = inquireCall('status', { flags: 0 });

const callChecks: readonly WrittenCheck[] = [
  writtenCheck(
    'inquire',
    'a daemon that does not know the program says so',
    'Extension: a daemon answers its calls, or with its usual error that it cannot find the program.',
    async (context) => {
      const error = await (await context.connectAdmin()).ask(status);
      if (error !== undefined) assert.ok(isUnknownProgram(error), `${error.code} ${error.message ?? ''}`);
    },
    { harmless: true },
  ),
  writtenCheck(
    'inquire',
    'the lock socket does not know the program',
    'Extension: the lock socket serves only the programs of libvirt, and not this one.',
    async (context) => {
      const error = await (await context.connect()).ask(status);
      assert.ok(error !== undefined && isUnknownProgram(error), error?.message ?? 'it answers');
    },
    { harmless: true },
  ),
  writtenCheck(
    'inquire',
    'another user learns nothing',
    "Extension: only the daemon's own user is answered, whatever the mode of the socket says.",
    async (context) => {
      const daemon = await context.start();
      chmodSync(daemon.adminSocket, 0o777);
      const path = join(context.place.sockets, 'virtlockd-admin-sock');
      assert.equal(await otherUserHears(context.place, path, encode(status)), 'closed');
    },
    { rootOnly: 'takes a second user' },
  ),
  inquireCheck(
    'flags that are not known are refused',
    'flags beyond those described are an error.',
    async ({ inquirer }) => {
      for (const [name, flags] of [
        ['status', 1],
        ['counters', 0x8000_0000],
        ['subscribe', 4],
        ['refusedRestart', 2],
        ['storages', 1],
      ] as const) {
        const error = await inquirer.peer.ask(inquireCall(name, { flags }));
        assert.equal(error?.code, 8, name);
        assert.match(error.message ?? '', /^unsupported flags \(0x[0-9a-f]+\) in function inquire/);
      }
      const filter = { filter: all, cursor: 0n, limit: 0, flags: 2 };
      assert.equal((await inquirer.peer.ask(inquireCall('locks', filter)))?.code, 8);
      const owners = { pid: null, cursor: 0n, limit: 0, flags: 1 };
      assert.equal((await inquirer.peer.ask(inquireCall('owners', owners)))?.code, 8);
      assert.equal((await inquirer.peer.ask(inquireCall('refusalNotes', { after: 0, flags: 1 })))?.code, 8);
      const states = { cursor: 0n, limit: 0, flags: 2 };
      assert.equal((await inquirer.peer.ask(inquireCall('lockStates', states)))?.code, 8);
      const dead = { pid: 1, lockspace: null, resource: null, flags: 2 };
      assert.equal((await inquirer.peer.ask(inquireCall('releaseDead', dead)))?.code, 8);
    },
  ),
  inquireCheck('procedures that are not known are refused', 'as those of any program.', async ({ inquirer }) => {
    for (const procedure of [0, 100, 1000, -1]) {
      const error = await inquirer.peer.ask(rawCall(procedure));
      assert.deepEqual([error?.code, error?.message], [39, `unknown procedure: ${procedure}`]);
    }
  }),
  inquireCheck(
    'arguments that cannot be read are refused',
    'such a call is an error, and the connection goes on.',
    async ({ inquirer }) => {
      const whole = inquireCall('locks', { filter: { ...all, owner: 'x' }, cursor: 0n, limit: 0, flags: 0 }).payload;
      const long = Buffer.from(whole);
      // The length of the owner's name, behind the filter's five absent fields and its own presence word.
      long.writeUInt32BE(0xffff_fff0, 24);
      for (const payload of [Buffer.alloc(0), whole.subarray(0, whole.length - 4), long, Buffer.alloc(3)]) {
        const error = await inquirer.peer.ask(rawCall(1, payload));
        assert.deepEqual([error?.code, error?.message], [39, 'Unable to decode message payload']);
      }
      await inquirer.ask('status', { flags: 0 });
    },
  ),
  inquireCheck(
    'the status describes the process',
    'pid, number of restarts, and numbers of locks, lockspaces and owners.',
    async (scene) => {
      const owner = await scene.owner();
      await owner.must(lock.acquire('', scene.file('disk')));
      await owner.must(lock.createLockspace(join(scene.dir, 'space')));
      const { pid, restarts, locks, lockspaces, owners, lockServer } = await scene.inquirer.ask('status', { flags: 0 });
      assert.deepEqual([pid, restarts, locks, owners], [scene.daemon.pid, 0, 1, 1]);
      assert.ok(lockspaces >= 1 && lockServer.clients >= 1 && lockServer.maxClients > 0 && !lockServer.isFull);
    },
  ),
  inquireCheck('what happens is counted', 'acquired and released locks, and refusals.', async (scene) => {
    const counted = async (): Promise<Map<string, number>> => {
      const { counters } = await scene.inquirer.ask('counters', { flags: 0 });
      return new Map(counters.map(({ name, value }) => [name, value]));
    };
    const before = await counted();
    const { disk, holder: owner } = await scene.held();
    await owner.ask(lock.acquire('', disk));
    await owner.must(lock.release('', disk));
    const after = await counted();
    for (const name of ['acquired', 'released', 'refusedHeld', 'connected']) {
      assert.equal((after.get(name) ?? 0) - (before.get(name) ?? 0), 1, name);
    }
  }),
];

export const inquireChecks: readonly WrittenCheck[] = [...callChecks, ...listChecks, ...eventChecks];
