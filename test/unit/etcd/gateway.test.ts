/** Members that do not answer as they should, and what is made of that. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { EtcdError, Gateway } from '../../../src/etcd/gateway.ts';
import { Failure } from '../../../src/etcd/messages.ts';
import { Etcd } from '../../../src/etcd/operations.ts';
import { DEFAULT_ETCD, type EtcdSettings } from '../../../src/etcd/settings.ts';
import { EtcdMember } from '../../../src/lab/etcd.ts';
import { missingEtcd } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';

type Answer = object | null;
const HEADER = { cluster_id: '7', revision: '1' };

describe('the gateway of etcd', function () {
  this.timeout(30_000);
  const servers: Server[] = [];
  const members: EtcdMember[] = [];

  afterEach(async () => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
    await Promise.all(members.splice(0).map(async (member) => member.close()));
  });

  /** Something that answers requests as `answer` says; null: never. */
  async function listen(answer: (path: string, request: IncomingMessage) => Answer): Promise<string> {
    const server = createServer((request: IncomingMessage, response: ServerResponse) => {
      const body = answer(request.url ?? '', request);
      if (body === null) return;
      response.statusCode = 'error' in body ? 400 : 200;
      response.end(`${JSON.stringify(body)}\n`);
    });
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  const etcdAt = (endpoints: string[], settings: Partial<EtcdSettings> = {}): Etcd =>
    new Etcd(new Gateway({ ...DEFAULT_ETCD, endpoints, ...settings }));
  const isUnreachable = (error: unknown): boolean =>
    error instanceof EtcdError && error.failure === Failure.UNREACHABLE;

  it('takes no answer of another server for one of etcd: no lease is gone by it, and no lock released', async () => {
    const etcd = etcdAt([await listen(() => ({ status: 'ok' }))]);
    await assert.rejects(etcd.run('keepAlive', { lease: '1' }, 300), isUnreachable);
    const lock = { resource: '/disk', shared: false, lease: '1', revision: '1', unlinks: true };
    await assert.rejects(etcd.run('release', lock, 300), isUnreachable);
    await assert.rejects(etcd.run('grant', { seconds: 5 }, 300), /its answer is none of etcd/);
  });

  it('says what a member has answered, also when the last attempt of a call had no time for an answer', async () => {
    let asked = 0;
    const etcd = etcdAt([await listen(() => (asked++ === 0 ? { status: 'ok' } : null))]);
    await assert.rejects(etcd.run('grant', { seconds: 5 }, 250), /its answer is none of etcd/);
    assert.equal(asked, 2);
  });

  it('takes no answer of another cluster, which does not know the lease', async function () {
    skipIf(this, missingEtcd());
    members.push(await EtcdMember.start(), await EtcdMember.start());
    const [one, two] = members;
    const endpoints = members.map(({ endpoint }) => endpoint);
    // Another host might get its locks of the other one.
    await assert.rejects(
      etcdAt(endpoints).run('grant', { seconds: 60 }, 5000),
      /members of different clusters.*127\.0\.0\.1/,
    );
    await two?.kill();
    const etcd = etcdAt(endpoints);
    const { lease, cluster } = await etcd.run('grant', { seconds: 60 }, 5000);
    await two?.run();
    await one?.kill();
    await assert.rejects(etcd.run('keepAlive', { lease }, 1000), (error) => {
      return (
        isUnreachable(error) && (error as Error).message.includes(`${two?.endpoint}: it is a member of another cluster`)
      );
    });
    // It refuses the lease in an answer that does not say of which cluster it is.
    const lock = { resource: '/disk', shared: false, creates: true, value: 'mine', lease };
    await assert.rejects(etcd.run('acquire', lock, 1000), isUnreachable);
    const announcement = { lease, key: '/hosts/1', value: '' };
    await assert.rejects(etcd.run('confirm', announcement, 1000), isUnreachable);
    // Another client process has not seen who has granted the lease.
    for (const name of ['keepAlive', 'confirm'] as const)
      await assert.rejects(etcdAt(endpoints).run(name, { ...announcement, cluster }, 1000), isUnreachable);
    // Once the lease has ended, another cluster is as good.
    assert.notEqual((await etcd.run('grant', { seconds: 60 }, 5000)).lease, lease);
  });

  it('keeps a lease alive while calls have all their connections and hang', async () => {
    const endpoint = await listen((path) =>
      path === '/v3/lease/keepalive' ? { result: { header: HEADER, ID: '1', TTL: '5' } } : null,
    );
    const etcd = etcdAt([endpoint]);
    const hung = Array.from({ length: 64 }, async (_, index) =>
      assert.rejects(etcd.run('create', { resource: `/disk${index}` }, 3000)),
    );
    assert.equal((await etcd.run('keepAlive', { lease: '1' }, 1000)).seconds, 5);
    await Promise.all(hung);
  });

  it('asks what all members agree on when the leader does not know a lease', async () => {
    // What etcd answers: the key of this host, then whether a put on the lease is taken.
    let lease = '';
    let put: Answer = { header: HEADER };
    const asked: string[] = [];
    const key = Buffer.from('/hosts/7').toString('base64');
    const endpoint = await listen((path) => {
      asked.push(path);
      if (path === '/v3/lease/keepalive') return { result: { header: HEADER, ID: '7' } };
      if (path === '/v3/kv/put') return put;
      return { header: HEADER, kvs: lease === '' ? [] : [{ key, value: '', lease }] };
    });
    const etcd = etcdAt([endpoint]);
    const confirm = async (): Promise<boolean> =>
      (await etcd.run('confirm', { lease: '7', key: '/hosts/7', value: '{}' }, 1000)).exists;
    assert.equal((await etcd.run('keepAlive', { lease: '7' }, 1000)).seconds, 0);
    lease = '7';
    assert.equal(await confirm(), true);
    assert.deepEqual(asked, ['/v3/lease/keepalive', '/v3/kv/range']);
    // The key is missing, or that of another lease: it says nothing of this one.
    for (const other of ['', '8']) {
      lease = other;
      put = { header: HEADER };
      assert.equal(await confirm(), true);
      put = { error: 'etcdserver: requested lease not found', code: 5 };
      assert.equal(await confirm(), false);
      put = { error: 'etcdserver: mvcc: database space exceeded', code: 8 };
      await assert.rejects(confirm(), /etcd is full/);
    }
  });

  it('gets another token when users or roles of etcd have changed', async () => {
    let tokens = 0;
    const endpoint = await listen((path, { headers }) => {
      if (path === '/v3/auth/authenticate') return { header: HEADER, token: `token ${++tokens}` };
      if (headers.authorization === 'token 2') return { header: HEADER };
      return { error: 'etcdserver: revision of auth store is old', code: 3 };
    });
    const etcd = etcdAt([endpoint], { user: 'virtlockd', password: 'secret' });
    await etcd.run('put', { key: '/key', value: '', lease: '1' }, 1000);
    assert.equal(tokens, 2);
  });
});
