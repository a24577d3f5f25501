/** The client process, which goes on when the daemon executes itself. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { type ClientLink, EtcdClient, type Reply, startClient } from '../../../src/etcd/client.ts';
import { Gateway } from '../../../src/etcd/gateway.ts';
import type { Args, OperationName } from '../../../src/etcd/messages.ts';
import { Etcd } from '../../../src/etcd/operations.ts';
import { DEFAULT_ETCD } from '../../../src/etcd/settings.ts';
import { posix } from '../../../src/posix/posix.ts';
import { EtcdMember } from '../../../src/lab/etcd.ts';
import { missingDaemon, missingEtcd } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { poller } from '../support/poller.ts';

describe('the client process of etcd', function () {
  this.timeout(30_000);
  const ends: (() => unknown)[] = [];

  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });

  it('does nothing late for the program before: its acquire takes no lock of the next one', async function () {
    skipIf(this, missingEtcd(), missingDaemon('ours'));
    const member = await EtcdMember.start();
    ends.push(async () => member.close());
    // A member that hangs.
    const hanging = createServer().listen(0, '127.0.0.1');
    ends.push(() => hanging.close());
    const hung: Socket[] = [];
    hanging.on('connection', (socket) => {
      hung.push(socket);
      socket.resume();
    });
    await once(hanging, 'listening');
    const { port } = hanging.address() as AddressInfo;
    const settings = { ...DEFAULT_ETCD, endpoints: [`http://127.0.0.1:${port}`, member.endpoint] };
    const etcd = new Etcd(new Gateway({ ...settings, endpoints: [member.endpoint] }));
    const { lease } = await etcd.run('grant', { seconds: 60 }, 5000);
    const link: ClientLink = { poller, start: startClient, changed: () => undefined };
    const ask = async <N extends OperationName>(client: EtcdClient, name: N, args: Args<N>): Promise<Reply<N>> =>
      new Promise((resolve) => {
        client.request(name, args, name === 'keepAlive' ? 600 : 4000, resolve);
      });
    const lock = { resource: '/disk', shared: false, creates: true, lease };

    const former = new EtcdClient(settings, link);
    ends.push(() => {
      former.end();
    });
    void ask(former, 'acquire', { ...lock, value: 'former' });
    // Which finds the member that answers.
    assert.ok((await ask(former, 'keepAlive', { lease })).ok);
    const carried = former.state;
    assert.ok(carried !== undefined);
    const later = new EtcdClient(settings, link, { ...carried, socket: posix.duplicate(carried.socket) });
    ends.push(() => {
      later.end();
    });
    former.end();
    const reply = await ask(later, 'acquire', { ...lock, value: 'later' });
    assert.ok(reply.ok && reply.result.kind === 'granted');
    // Then the former one would be tried at the other member.
    await Promise.all(hung.map(async (socket) => socket.closed || once(socket, 'close')));
    for (let i = 0; i < 3; i++) assert.ok((await ask(later, 'create', { resource: '/another' })).ok);
    assert.equal(member.keys('/disk//x').get('/disk//x'), 'later');
  });
});
