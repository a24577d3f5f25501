/** Subscriptions to changes, and state that outlives SIGUSR1. */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { ChangeType } from '../../../../../xdr/programs/inquire.ts';
import type { WrittenCheck } from '../../check.ts';
import { patient } from '../../../../lab/patience.ts';
import { executeAgain } from '../../../../lab/process.ts';
import { lock } from '../../../../lab/wire.ts';
import { inquireCheck, only, type Scene } from './inquirer.ts';
import { NOBODY } from '../daemon-scene.ts';

/** The daemon gathers changes for a shorter time: an event would come before the next reply. */
const GATHERED_MS = 200;

/** Sends SIGUSR1 and waits until the program has been executed again. */
async function restart({ context, daemon: { pid } }: Scene): Promise<void> {
  context.note('SIGUSR1');
  await executeAgain(pid);
}

export const eventChecks: readonly WrittenCheck[] = [
  inquireCheck(
    'a subscriber gets every change',
    'acquired, refused and released locks, clients that connect and disconnect.',
    async (scene) => {
      const watcher = await scene.another();
      await watcher.ask('subscribe', { flags: 0 });
      const disk = scene.file('disk');
      const owner = await scene.owner({ pid: NOBODY + 1, name: 'guest' });
      assert.equal((await watcher.change(ChangeType.CONNECTED)).value.pid, process.pid);
      await owner.must(lock.acquire('', disk));
      const { value: acquired } = await watcher.change(ChangeType.ACQUIRED);
      assert.deepEqual([acquired.lock.path, only(acquired.lock.holds).owner.name], [disk, 'guest']);
      await owner.ask(lock.acquire('', disk));
      assert.equal((await watcher.change(ChangeType.REFUSED)).value.name, disk);
      await owner.must(lock.release('', disk));
      assert.equal((await watcher.change(ChangeType.RELEASED)).value.lock.path, disk);
      owner.close();
      await watcher.change(ChangeType.DISCONNECTED);
    },
  ),
  inquireCheck('who has unsubscribed gets nothing', 'no event comes behind the reply.', async (scene) => {
    const watcher = await scene.another();
    await watcher.ask('subscribe', { flags: 0 });
    await watcher.ask('unsubscribe', { flags: 0 });
    await (await scene.owner()).must(lock.acquire('', scene.file('disk')));
    await pause(patient(GATHERED_MS));
    assert.equal((await watcher.ask('status', { flags: 0 })).subscribers, 0);
  }),
  inquireCheck('who has not subscribed gets nothing', 'only subscribers get events.', async (scene) => {
    await (await scene.another()).ask('subscribe', { flags: 0 });
    await (await scene.owner()).must(lock.acquire('', scene.file('disk')));
    await pause(patient(GATHERED_MS));
    assert.equal((await scene.inquirer.ask('status', { flags: 0 })).subscribers, 1);
  }),
  inquireCheck(
    'a subscription outlives SIGUSR1',
    'the subscriber gets an event of the resumption, and then of further changes.',
    async (scene) => {
      const watcher = await scene.another();
      const owner = await scene.owner();
      await watcher.ask('subscribe', { flags: 0 });
      await restart(scene);
      await watcher.change(ChangeType.RESUMED);
      await owner.must(lock.acquire('', scene.file('disk')));
      await watcher.change(ChangeType.ACQUIRED);
    },
  ),
  inquireCheck(
    'what is known of a lock outlives SIGUSR1',
    'owner, time and connection stay the same.',
    async (scene) => {
      const owner = await scene.owner({ pid: NOBODY + 1, name: 'guest', id: 12 });
      await owner.must(lock.acquire('', scene.file('disk')));
      const before = only(await scene.inquirer.locks());
      await restart(scene);
      const after = only(await scene.inquirer.locks());
      assert.deepEqual(after.holds, before.holds);
      assert.equal((await scene.inquirer.ask('status', { flags: 0 })).restarts, 1);
    },
  ),
  inquireCheck('refusals and counters outlive SIGUSR1', 'no restart forgets them.', async (scene) => {
    const { disk, holder: owner } = await scene.held();
    await owner.ask(lock.acquire('', disk));
    await restart(scene);
    const { refusals } = await scene.inquirer.ask('refusals', { after: 0, flags: 0 });
    assert.equal(only(refusals).name, disk);
    const { counters } = await scene.inquirer.ask('counters', { flags: 0 });
    assert.equal(counters.find(({ name }) => name === 'acquired')?.value, 1);
  }),
];
