import assert from 'node:assert/strict';
import { AdminClient, ConnectionLost, ErrorCode, LockClient, RemoteFailure } from '../../../src/client/index.ts';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import type { DaemonKind } from '../../../src/lab/generation.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';

const { NO_SERVER, NO_CLIENT, INVALID_ARG, INTERNAL_ERROR, RPC } = ErrorCode;

async function refusedWith(code: number, call: Promise<unknown>): Promise<void> {
  await assert.rejects(call, (error) => error instanceof RemoteFailure && error.code === code);
}

for (const kind of ['ours', '9.0.0', '12.8.0'] satisfies DaemonKind[]) {
  describe(`the admin client with virtlockd ${kind}`, () => {
    let daemon: LockDaemon;
    let admin: AdminClient;

    before(async function () {
      skipIf(this, missingDaemon(kind));
      daemon = await startDaemon(kind);
      admin = await AdminClient.connect(daemon.adminSocket);
    });

    after(async () => {
      await (daemon as LockDaemon | undefined)?.stop();
    });

    it('knows the version and the servers', async () => {
      const { major, minor, micro } = await admin.libVersion();
      assert.equal(`${major}.${minor}.${micro}`, kind === 'ours' ? '12.8.0' : kind);
      assert.deepEqual((await admin.servers()).sort(), ['admin', 'virtlockd']);
      assert.equal(await admin.countServers(), 2);
      assert.equal(await admin.lookupServer('virtlockd'), 'virtlockd');
      await refusedWith(NO_SERVER, admin.lookupServer('nobody'));
    });

    it('knows the clients, and disconnects them', async () => {
      const lock = await LockClient.connect(daemon.socket);
      // The C daemon knows a client's process only after the client's first call.
      await lock.register({ uuid: Buffer.alloc(16, 1), name: 'guest', id: 1, pid: 5_000_000 });
      const clients = await admin.clients('virtlockd');
      assert.equal(await admin.countClients('virtlockd'), clients.length);
      const client = clients.at(-1);
      assert.ok(client !== undefined);
      assert.deepEqual([client.server, client.transport], ['virtlockd', 0]);
      assert.ok(Math.abs(client.connectedAt.getTime() - Date.now()) < 60_000);
      assert.deepEqual(await admin.lookupClient('virtlockd', client.id), client);
      const identity = await admin.clientInfo('virtlockd', Number(client.id));
      assert.equal(identity.processId, process.pid);
      assert.deepEqual([identity.userId, identity.userName, identity.groupName], [0, 'root', 'root']);
      assert.deepEqual([identity.readonly, identity.selinuxContext], [false, undefined]);
      assert.equal(identity.parameters.unix_process_id, process.pid);
      const ended = new Promise((resolve) => {
        lock.onClose(resolve);
      });
      await admin.closeClient('virtlockd', client.id);
      assert.ok((await ended) instanceof ConnectionLost);
      await refusedWith(NO_CLIENT, admin.lookupClient('virtlockd', 1_000_000n));
      await refusedWith(NO_CLIENT, admin.clientInfo('virtlockd', 1_000_000));
      await assert.rejects(admin.lookupClient('virtlockd', -1), RangeError);
    });

    it('reads and changes limits and the thread pool', async () => {
      const before = await admin.limits('virtlockd');
      assert.equal(before.maxClients, 1024);
      await admin.setLimits('virtlockd', { maxClients: 77, maxUnauthenticated: 20 });
      assert.deepEqual(
        { ...(await admin.limits('virtlockd')), clients: 0 },
        { ...before, maxClients: 77, maxUnauthenticated: 20, clients: 0 },
      );
      await refusedWith(INVALID_ARG, admin.setLimits('virtlockd', { maxClients: 1, maxUnauthenticated: 2 }));
      await assert.rejects(admin.setLimits('virtlockd', { maxClients: 0.5 }), RangeError);
      await admin.setThreadPool('virtlockd', { prioWorkers: 3 });
      const { prioWorkers, maxWorkers } = await admin.threadPool('virtlockd');
      assert.deepEqual([prioWorkers, maxWorkers], [3, 0]);
      await refusedWith(INVALID_ARG, admin.setThreadPool('virtlockd', { minWorkers: 2 }));
    });

    it('reads and changes logging', async () => {
      assert.deepEqual(await admin.logFilters(), { text: '', count: 0 });
      await admin.setLogFilters('1:rpc 3:lock');
      assert.deepEqual(await admin.logFilters(), { text: '1:*rpc* 3:*lock* ', count: 2 });
      await admin.setLogFilters('');
      assert.equal((await admin.logFilters()).count, 0);
      const { text, count } = await admin.logOutputs();
      assert.equal(count, 1);
      await admin.setLogOutputs(text.trim());
      assert.deepEqual(await admin.logOutputs(), { text, count });
      await refusedWith(INVALID_ARG, admin.setLogOutputs('9:nowhere'));
    });

    it('is refused what the daemon has not', async () => {
      await refusedWith(INTERNAL_ERROR, admin.updateTls('virtlockd'));
      if (kind === '9.0.0') await refusedWith(RPC, admin.shutdown());
      await admin.setTimeout(0);
    });

    it('takes leave, and ends the daemon', async () => {
      await admin.close();
      assert.equal(admin.isOpen, false);
      await assert.rejects(admin.libVersion(), ConnectionLost);
      await admin.close();
      if (kind === '9.0.0') return;
      const last = await AdminClient.connect(daemon.adminSocket);
      await last.shutdown();
      assert.equal((await daemon.process.exited).code, 0);
      await assert.rejects(last.shutdown(), ConnectionLost);
    });
  });
}
