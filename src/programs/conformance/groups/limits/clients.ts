/** The limits on clients. */
import assert from 'node:assert/strict';
import type { CheckContext, NotedPeer } from '../../check-context.ts';
import { type WrittenCheck, writtenCheck } from '../../check.ts';
import { admin, clientIds } from '../../../../lab/admin-calls.ts';
import { eventually } from '../../../../lab/process.ts';
import { encode, lock, type Peer } from '../../../../lab/wire.ts';

const owner = (number: number): ReturnType<typeof lock.register> => lock.register({ pid: 5_000_000 + number });

/** Connects a client whose first call gets no answer yet. */
async function waiting(context: CheckContext, number: number): Promise<Peer> {
  const { peer } = await context.connect();
  peer.send(encode({ ...owner(number), serial: 1 }));
  return peer;
}

/** Waits until the daemon serves so many clients, as its admin socket counts them. */
async function served(asker: NotedPeer, count: number): Promise<void> {
  await eventually(`${count} clients`, async () => {
    const { payload } = await asker.peer.call(admin.clients('virtlockd'));
    return clientIds(payload).length === count;
  });
}

export const clientLimits: readonly WrittenCheck[] = [
  writtenCheck(
    'limits',
    'max_clients is how many are served at once',
    'So many are served, one more waits unanswered, and comes in when a client leaves.',
    async (context) => {
      await context.start({ configuration: 'max_clients = 2\n' });
      const asker = await context.connectAdmin();
      const inside = [await context.connect(), await context.connect()];
      for (const peer of inside) await peer.must(owner(1));
      const newcomer = await waiting(context, 3);
      // Several rounds of the daemon later it is not accepted.
      for (let round = 0; round < 10; round++) await served(asker, 2);
      inside[0]?.close();
      assert.equal((await newcomer.receive())?.status, 0);
      await served(asker, 2);
    },
  ),
  writtenCheck(
    'limits',
    'a raised limit lets those in who wait',
    'SET_LIMITS applies at once to clients that are not accepted yet.',
    async (context) => {
      await context.start({ configuration: 'max_clients = 1\n' });
      const asker = await context.connectAdmin();
      await (await context.connect()).must(owner(1));
      const newcomer = await waiting(context, 2);
      await served(asker, 1);
      await asker.must(admin.setLimits('virtlockd', { nclients_max: 2 }));
      assert.equal((await newcomer.receive())?.status, 0);
    },
  ),
  writtenCheck(
    'limits',
    'a lowered limit keeps newcomers out',
    'Present clients stay; a new one is served only after enough of them have left.',
    async (context) => {
      await context.start();
      const asker = await context.connectAdmin();
      const inside = [await context.connect(), await context.connect()];
      for (const peer of inside) await peer.must(owner(1));
      await asker.must(admin.setLimits('virtlockd', { nclients_max: 1, nclients_unauth_max: 1 }));
      const newcomer = await waiting(context, 2);
      inside[0]?.close();
      await served(asker, 1);
      await inside[1]?.must(lock.register({ pid: 5_000_009 }));
      await served(asker, 1);
      inside[1]?.close();
      assert.equal((await newcomer.receive())?.status, 0);
    },
  ),
  writtenCheck(
    'limits',
    'admin_max_clients is for the admin socket',
    'The limits of the two sockets do not touch each other.',
    async (context) => {
      const daemon = await context.start({ configuration: 'admin_max_clients = 1\nmax_clients = 3\n' });
      const asker = await context.connectAdmin();
      await asker.must(admin.limits('admin'));
      const { peer: second } = await context.connect(daemon.adminSocket);
      second.send(encode({ ...admin.limits('admin'), serial: 7 }));
      for (const number of [1, 2, 3]) await (await context.connect()).must(owner(number));
      asker.close();
      assert.equal((await second.receive())?.serial, 7);
    },
  ),
];
