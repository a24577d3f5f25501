/** What the admin program changed outlives the program that was told. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { reexecute, startDaemon } from '../../../src/lab/start.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { lock, type Message, type Peer } from '../../../src/lab/wire.ts';
import { admin, clientIds, readSetting, readUnsigned } from '../../../src/lab/admin-calls.ts';

async function reply(peer: Peer, request: Parameters<Peer['call']>[0]): Promise<Message> {
  const message = await peer.call(request);
  assert.equal(message.status, 0, message.payload.toString('latin1'));
  return message;
}

describe('what the admin program changed', function () {
  this.timeout(60_000);

  it('survives a re-execution', async function () {
    skipIf(this, missingDaemon('ours'));
    const daemon = await startDaemon('ours');
    try {
      const peer = await daemon.connectAdmin();
      await reply(peer, admin.setLimits('virtlockd', { nclients_max: 77, nclients_unauth_max: 55 }));
      await reply(peer, admin.setLimits('admin', { nclients_max: 33, nclients_unauth_max: 22 }));
      await reply(peer, admin.setThreadPool('virtlockd', { prioWorkers: 3 }));
      await reply(peer, admin.setOutputs('1:file:/run/kept.log 4:stderr'));
      await reply(peer, admin.setFilters('3:rpc 1:lockspace'));
      const client = await daemon.connect();
      await client.must(lock.register({ pid: 4_194_305 }));
      const ids = clientIds((await reply(peer, admin.clients('virtlockd'))).payload);

      await reexecute(daemon);

      const limits = readUnsigned((await reply(peer, admin.limits('virtlockd'))).payload);
      assert.deepEqual([limits.nclients_max, limits.nclients_unauth_max], [77, 55]);
      const adminLimits = readUnsigned((await reply(peer, admin.limits('admin'))).payload);
      assert.deepEqual([adminLimits.nclients_max, adminLimits.nclients_unauth_max], [33, 22]);
      assert.equal(readUnsigned((await reply(peer, admin.threadPool('virtlockd'))).payload).prioWorkers, 3);
      assert.equal(readSetting((await reply(peer, admin.outputs)).payload), '1:file:/run/kept.log 4:stderr');
      assert.equal(readSetting((await reply(peer, admin.filters)).payload, 4), '3:*rpc* 1:*lockspace* ');
      assert.deepEqual(clientIds((await reply(peer, admin.clients('virtlockd'))).payload), ids);
      const [id = 0] = ids;
      assert.match(
        (await reply(peer, admin.clientInfo('virtlockd', id))).payload.toString('latin1'),
        /unix_process_id/,
      );

      // What was carried over once is carried over again, and appended to the same file.
      await reexecute(daemon);
      assert.equal(readSetting((await reply(peer, admin.outputs)).payload), '1:file:/run/kept.log 4:stderr');
      assert.ok(await peer.ask(admin.lookupServer('after')));
      assert.match(readFileSync(daemon.lab.outside('/run/kept.log'), 'latin1'), /No server named 'after'/);

      const next = await daemon.connect();
      await next.must(lock.register({ pid: 4_194_306 }));
      const after = clientIds((await reply(peer, admin.clients('virtlockd'))).payload);
      assert.ok(Math.max(...after) > Math.max(...ids), 'an id was used again');
    } finally {
      await daemon.stop();
    }
  });

  it('includes the time without clients after which the daemon ends', async function () {
    skipIf(this, missingDaemon('ours'));
    const daemon = await startDaemon('ours');
    try {
      const peer = await daemon.connectAdmin();
      await reply(peer, admin.setTimeout(1));
      await reexecute(daemon);
      await reply(peer, admin.outputs);
      peer.close();
      assert.equal((await daemon.process.exited).code, 0);
    } finally {
      await daemon.stop();
    }
  });
});
