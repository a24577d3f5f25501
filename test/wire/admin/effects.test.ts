/** What changes by the admin program: clients that leave, and limits that hold. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { eventually, type Running } from '../../../src/lab/process.ts';
import type { DaemonKind } from '../../../src/lab/generation.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { autocreate, encode, lock, type Message, type Peer } from '../../../src/lab/wire.ts';
import { admin, clientIds, readSetting, readUnsigned } from '../../../src/lab/admin-calls.ts';

const resource = '/run/disk.img';

/** A process that registers itself, acquires the resource, says so, and lives on. */
async function startHolder(daemon: LockDaemon): Promise<Running> {
  const program = `
    const { Peer, lock } = await import(${JSON.stringify(join(checkout, 'src/lab/wire.ts'))});
    const peer = await Peer.connect('/run/libvirt/virtlockd-sock');
    await peer.must(lock.register({ pid: process.pid }));
    await peer.must(lock.acquire('', ${JSON.stringify(resource)}, ${autocreate}));
    console.log('held');
    setInterval(() => undefined, 1e6);
  `;
  const holder = daemon.lab.spawn(join(checkout, 'scripts/node'), ['--input-type=module', '-e', program]);
  await eventually('the holder holds', () => {
    assert.equal(holder.finished, undefined, holder.output);
    return holder.output.includes('held');
  });
  return holder;
}

async function reply(peer: Peer, request: Parameters<Peer['call']>[0]): Promise<Message> {
  const message = await peer.call(request);
  assert.equal(message.status, 0, message.payload.toString('latin1'));
  return message;
}

for (const kind of ['9.0.0', 'ours'] as const satisfies DaemonKind[]) {
  describe(`what the admin program does to ${kind === 'ours' ? 'this daemon' : `the C daemon ${kind}`}`, function () {
    this.timeout(60_000);
    let daemon: LockDaemon;
    let peer: Peer;
    const others: Peer[] = [];

    before(function () {
      skipIf(this, missingDaemon(kind));
    });

    beforeEach(async () => {
      daemon = await startDaemon(kind);
      peer = await daemon.connectAdmin();
      await eventually('the connections that looked for the daemon are gone', async () => {
        const lockClients = clientIds((await reply(peer, admin.clients('virtlockd'))).payload);
        return lockClients.length === 0 && clientIds((await reply(peer, admin.clients('admin'))).payload).length === 1;
      });
    });

    afterEach(async () => {
      for (const other of others.splice(0)) other.close();
      peer.close();
      await daemon.stop();
    });

    it('disconnecting a lock holder releases its locks and ends it', async () => {
      const before = daemon.locks().length;
      const holder = await startHolder(daemon);
      assert.equal(daemon.locks().length, before + 1);
      const [id] = clientIds((await reply(peer, admin.clients('virtlockd'))).payload);
      assert.ok(id);
      await reply(peer, admin.closeClient('virtlockd', id));
      const { signal } = await holder.exited;
      assert.equal(signal, 'SIGTERM');
      await eventually('its lock is gone', () => daemon.locks().length === before);
    });

    it('disconnecting a client that holds for another process leaves the lock', async () => {
      const before = daemon.locks().length;
      const agent = await daemon.connect();
      others.push(agent);
      await agent.must(lock.register({ pid: 4_194_305 }));
      await agent.must(lock.acquire('', resource, autocreate));
      const [id] = clientIds((await reply(peer, admin.clients('virtlockd'))).payload);
      assert.ok(id);
      await reply(peer, admin.closeClient('virtlockd', id));
      assert.equal(await agent.receive(), undefined);
      assert.equal(daemon.locks().length, before + 1);
    });

    it('a client that disconnects itself gets no answer, and one that takes its leave gets one', async () => {
      const ids = clientIds((await reply(peer, admin.clients('admin'))).payload);
      const other = await daemon.connectAdmin();
      others.push(other);
      await reply(other, admin.outputs);
      const id = clientIds((await reply(peer, admin.clients('admin'))).payload).find((each) => !ids.includes(each));
      assert.ok(id);
      await assert.rejects(other.call(admin.closeClient('admin', id)), /closed instead of a reply/);

      await reply(peer, { ...admin.outputs, procedure: 2, payload: Buffer.alloc(0) });
      assert.equal(await peer.receive(), undefined);
    });

    it('what was asked before one disconnects oneself is answered', async () => {
      const [id] = clientIds((await reply(peer, admin.clients('admin'))).payload);
      assert.ok(id);
      peer.send(Buffer.concat([admin.outputs, admin.filters, admin.closeClient('admin', id)].map(encode)));
      assert.equal((await peer.receive())?.procedure, admin.outputs.procedure);
      assert.equal((await peer.receive())?.procedure, admin.filters.procedure);
      assert.equal(await peer.receive(), undefined);
    });

    it('whoever is disconnected is gone for the next call, and a text is there for any word but 0', async () => {
      const other = await daemon.connect();
      others.push(other);
      await other.must(lock.register({ pid: 4_194_305 }));
      const [id] = clientIds((await reply(peer, admin.clients('virtlockd'))).payload);
      assert.ok(id);
      const requests = [admin.closeClient('virtlockd', id), admin.clients('virtlockd')];
      peer.send(Buffer.concat(requests.map(encode)));
      assert.equal((await peer.receive())?.status, 0);
      assert.deepEqual(clientIds((await peer.receive())?.payload ?? Buffer.alloc(4, 1)), []);

      const { payload, ...request } = admin.setFilters('3:rpc');
      payload.writeUInt32BE(7, 0);
      await reply(peer, { ...request, payload });
      assert.equal(readSetting((await reply(peer, admin.filters)).payload, 4), '3:*rpc* ');
    });

    it('an error that is too long to be sent ends the connection, and nothing else', async () => {
      const other = await daemon.connectAdmin();
      others.push(other);
      await assert.rejects(other.call(admin.lookupServer('x'.repeat(4_194_304))), /closed instead of a reply/);
      await reply(peer, admin.outputs);
    });

    it('limits below the present number close nobody, and newcomers wait until enough have left', async () => {
      const clients: Peer[] = [];
      for (let i = 0; i < 4; i++) {
        const client = await daemon.connect();
        others.push(client);
        await client.must(lock.register({ pid: 4_194_305 + i }));
        clients.push(client);
      }
      await reply(peer, admin.setLimits('virtlockd', { nclients_max: 2, nclients_unauth_max: 2 }));
      const limits = readUnsigned((await reply(peer, admin.limits('virtlockd'))).payload);
      assert.equal(limits.nclients, 4);
      assert.equal(limits.nclients_max, 2);
      for (const client of clients) await client.must(lock.createLockspace('/run/space'));

      const newcomer = await daemon.connect();
      others.push(newcomer);
      let served = false;
      const registered = newcomer.must(lock.register({ pid: 4_194_400 })).then(() => {
        served = true;
      });
      for (let left = 3; left >= 2; left--) {
        clients.pop()?.close();
        await eventually(`${left} clients`, async () => {
          const now = readUnsigned((await reply(peer, admin.limits('virtlockd'))).payload);
          return now.nclients === left;
        });
        assert.equal(served, false);
      }
      clients.pop()?.close();
      await registered;
      assert.equal(readUnsigned((await reply(peer, admin.limits('virtlockd'))).payload).nclients, 2);
    });

    it('raised limits let the waiting in at once', async () => {
      await reply(peer, admin.setLimits('virtlockd', { nclients_max: 0, nclients_unauth_max: 0 }));
      const newcomer = await daemon.connect();
      others.push(newcomer);
      const registered = newcomer.must(lock.register({ pid: 4_194_305 }));
      assert.equal(readUnsigned((await reply(peer, admin.limits('virtlockd'))).payload).nclients, 0);
      await reply(peer, admin.setLimits('virtlockd', { nclients_max: 1 }));
      await registered;
    });

    it('the highest limit that there is lets everybody in', async () => {
      await reply(peer, admin.setLimits('virtlockd', { nclients_max: 0xffffffff }));
      const newcomer = await daemon.connect();
      others.push(newcomer);
      await newcomer.must(lock.register({ pid: 4_194_305 }));
    });
  });
}
