/** Clients outlive SIGUSR1 and notice nothing. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { admin, readUnsigned } from '../../../../lab/admin-calls.ts';
import { autocreate, encode, lock } from '../../../../lab/wire.ts';
import type { WrittenCheck } from '../../check.ts';
import { restartCheck } from './restart-check.ts';
import { denied, invalid, refused } from './scene.ts';

const unregistered = 'C cannot write a client that has not registered into its state, and exits with every lock lost';
const overfull = 'C lets one client more in than its limit allows, the first to wait at the restart';
const halves = 'C drops the received part of a message, and the connection with it';
const unsent = 'C drops replies that the client has not read';
const unanswered = 'C leaves calls unanswered that arrive together with the signal';

export const clientChecks: readonly WrittenCheck[] = [
  restartCheck(
    'a registered client goes on',
    'Its connection stays open, and it need not register again.',
    async (scene) => {
      const client = await scene.owner();
      await scene.restart();
      await client.must(lock.acquire('', scene.file('disk')));
      assert.ok(!client.peer.ended);
    },
  ),
  restartCheck('a restricted client stays restricted', 'No restart frees it.', async (scene) => {
    const client = await scene.owner();
    await client.must(lock.restrict());
    await scene.restart();
    await refused(client, lock.acquire('', scene.file('disk')), denied);
    await refused(client, lock.register({ pid: 5_200_000 }), denied);
  }),
  restartCheck('a client that is not restricted stays free', 'No restart restricts it.', async (scene) => {
    const client = await scene.owner();
    await scene.restart();
    await client.must(lock.restrict());
  }),
  restartCheck(
    'a client that has not registered stays',
    'It may register afterwards, and no lock is lost.',
    async (scene) => {
      const { disk } = await scene.held();
      const silent = await scene.connect();
      await refused(silent, lock.acquire('', disk), invalid);
      await scene.restart();
      assert.equal(scene.lockOn(disk), 'WRITE 0 0');
      await refused(silent, lock.release('', disk), invalid);
      await silent.must(lock.register({ pid: 5_200_000 }));
    },
    { known: unregistered },
  ),
  restartCheck(
    'a client that has said nothing yet stays',
    'Its first call is answered by the new program.',
    async (scene) => {
      const silent = await scene.connect();
      const asker = await scene.context.connectAdmin();
      await scene.until('it is accepted', async () => (await scene.clients(asker)).length === 1);
      await scene.restart();
      await silent.must(lock.register({ pid: 5_200_000 }));
    },
    { known: unregistered },
  ),
  restartCheck('a client of the admin socket stays', 'It may call as before.', async (scene) => {
    const asker = await scene.context.connectAdmin();
    const [id] = await scene.clients(asker, 'admin');
    await scene.restart();
    assert.deepEqual(await scene.clients(asker, 'admin'), [id]);
  }),
  restartCheck('clients keep their ids', 'The admin program calls them as before.', async (scene) => {
    const asker = await scene.context.connectAdmin();
    for (let count = 0; count < 3; count++) await scene.owner();
    const before = (await asker.must(admin.clients('virtlockd'))).payload;
    await scene.restart();
    await scene.until('the asking connection is gone', async () => (await scene.clients(asker)).length === 3);
    assert.deepEqual((await asker.must(admin.clients('virtlockd'))).payload, before);
  }),
  restartCheck('ids go on to be counted', 'The id of a client that has left is not given again.', async (scene) => {
    const asker = await scene.context.connectAdmin();
    const first = await scene.owner();
    const second = await scene.owner();
    const before = await scene.clients(asker);
    for (const peer of [first, second]) peer.close();
    await scene.until('they have left', async () => (await scene.clients(asker)).length === 0);
    await scene.restart();
    await scene.owner();
    const after = await scene.clients(asker);
    assert.ok(Math.max(...after) > Math.max(...before), `${after.join()} after ${before.join()}`);
  }),
  restartCheck(
    'who a client is stays known',
    'Afterwards the admin program reports its pid as before.',
    async (scene) => {
      const asker = await scene.context.connectAdmin();
      await scene.owner();
      await scene.restart();
      const [id = 0] = await scene.clients(asker);
      const text = (await asker.must(admin.clientInfo('virtlockd', id))).payload.toString('latin1');
      assert.match(text, /unix_process_id/);
    },
    { known: 'C does not know who a client is until it calls again' },
  ),
  restartCheck('set limits stay', 'Limits that the admin program has set outlive SIGUSR1.', async (scene) => {
    const asker = await scene.context.connectAdmin();
    await asker.must(admin.setLimits('virtlockd', { nclients_max: 77, nclients_unauth_max: 55 }));
    await asker.must(admin.setLimits('admin', { nclients_max: 33, nclients_unauth_max: 22 }));
    await scene.restart();
    const { nclients_max, nclients_unauth_max } = await scene.limits(asker);
    assert.deepEqual([nclients_max, nclients_unauth_max], [77, 55]);
    const own = await scene.limits(asker, 'admin');
    assert.deepEqual([own.nclients_max, own.nclients_unauth_max], [33, 22]);
  }),
  restartCheck(
    'the configured limit stays',
    'Without a limit that was set, the configured one stays.',
    async (scene) => {
      const asker = await scene.context.connectAdmin();
      await scene.restart();
      assert.equal((await scene.limits(asker)).nclients_max, 7);
    },
    { start: { configuration: 'max_clients = 7\n' } },
  ),
  restartCheck(
    'reserved workers stay',
    'The number of priority workers that was set is reported afterwards.',
    async (scene) => {
      const asker = await scene.context.connectAdmin();
      await asker.must(admin.setThreadPool('virtlockd', { prioWorkers: 3 }));
      await scene.restart();
      const pool = readUnsigned((await asker.must(admin.threadPool('virtlockd'))).payload);
      assert.equal(pool.prioWorkers, 3);
    },
  ),
  restartCheck(
    'a full server stays full',
    'A client that waits to be accepted goes on waiting, and comes in when another leaves.',
    async (scene) => {
      const inside = [await scene.owner(), await scene.owner()];
      const waiting = await scene.connect();
      waiting.peer.send(encode({ ...lock.register({ pid: 5_200_000 }), serial: 1 }));
      // Not restart(): no new client would be answered.
      await scene.reexecute();
      // The new program answers a new client after it has polled both listening sockets.
      const served = await scene.clients(await scene.context.connectAdmin());
      assert.equal(served.length, 2, `${served.length} clients are served, and the limit is 2`);
      for (const peer of inside) await peer.must(lock.acquire('', scene.file(`disk${inside.indexOf(peer)}`)));
      inside[0]?.close();
      assert.equal((await waiting.peer.receive())?.status, 0);
    },
    { known: overfull, start: { configuration: 'max_clients = 2\n' } },
  ),
  restartCheck(
    'half a message completes',
    'The received part of a call is not lost: the rest of it completes the call.',
    async (scene) => {
      const client = await scene.owner();
      const disk = scene.file('disk');
      const message = encode({ ...lock.acquire('', disk), serial: 77 });
      for (const cut of [1, 27, message.length - 1]) {
        client.peer.send(message.subarray(0, cut));
        await scene.restart();
        client.peer.send(message.subarray(cut));
        const reply = await client.peer.receive();
        assert.deepEqual([reply?.serial, reply?.status], [77, 0], `cut behind byte ${cut}`);
        await client.must(lock.release('', disk));
      }
    },
    { known: halves },
  ),
  restartCheck(
    'replies that wait to be taken arrive',
    'A slow reader gets every one of them, whole and in order.',
    async (scene) => {
      const client = await scene.owner();
      client.peer.socket.pause();
      const name = 'x'.repeat(60_000);
      const count = 100;
      for (let serial = 1; serial <= count; serial++) client.peer.send(encode({ ...lock.release('', name), serial }));
      await scene.restart();
      client.peer.socket.resume();
      for (let serial = 1; serial <= count; serial++) assert.equal((await client.peer.receive())?.serial, serial);
    },
    { known: unsent, limit: 15_000 },
  ),
  restartCheck(
    'calls that come with the signal are answered in order',
    'Every call that is sent around SIGUSR1 gets its reply, from one program or the other.',
    async (scene) => {
      const client = await scene.owner();
      const disk = `${scene.dir}/busy`;
      const count = 200;
      const calls = Array.from({ length: count }, (_, index) =>
        encode({
          ...(index % 2 === 0 ? lock.acquire('', disk, autocreate) : lock.release('', disk)),
          serial: index + 1,
        }),
      );
      const ask = async (): Promise<void> => {
        for (const call of calls) {
          client.peer.send(call);
          await turn();
        }
        for (let serial = 1; serial <= count; serial++) {
          const reply = await client.peer.receive();
          assert.deepEqual([reply?.serial, reply?.status], [serial, 0]);
        }
      };
      // C loses a call in some restarts only.
      for (let round = 0; round < 10; round++) await Promise.all([scene.restart(), ask()]);
    },
    { known: unanswered },
  ),
];
