/** The operations on a real member of etcd, without a daemon. */
import assert from 'node:assert/strict';
import { EtcdError, Gateway } from '../../../src/etcd/gateway.ts';
import { type Args, MAX_MESSAGE, type OperationName, type Result } from '../../../src/etcd/messages.ts';
import { Etcd } from '../../../src/etcd/operations.ts';
import { DEFAULT_ETCD } from '../../../src/etcd/settings.ts';
import { EtcdMember } from '../../../src/lab/etcd.ts';
import { missingEtcd } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';

describe('operations on etcd', function () {
  this.timeout(30_000);
  let member: EtcdMember;
  const members: EtcdMember[] = [];
  let etcd: Etcd;
  /** Of two hosts. */
  let here: string;
  let there: string;
  let count = 0;

  const run = async <N extends OperationName>(name: N, args: Args<N>, limit = 5000): Promise<Result<N>> =>
    etcd.run(name, args, limit);
  const leaseOf = async (): Promise<string> => (await run('grant', { seconds: 60 })).lease;

  before(async function () {
    skipIf(this, missingEtcd());
    member = await EtcdMember.start();
    members.push(member);
    etcd = new Etcd(new Gateway({ ...DEFAULT_ETCD, endpoints: [member.endpoint] }));
    [here, there] = [await leaseOf(), await leaseOf()];
  });

  after(async () => {
    await Promise.all(members.map(async (one) => one.close()));
  });

  const resource = (): string => `/test/locks/dir/disk${count}`;
  beforeEach(() => {
    count++;
  });

  const acquire = async (lease: string, options: Partial<Args<'acquire'>> = {}): Promise<Result<'acquire'>> =>
    run('acquire', {
      resource: resource(),
      shared: false,
      creates: true,
      value: `${Math.random()}`,
      lease,
      ...options,
    });
  const granted = async (...args: Parameters<typeof acquire>): Promise<string> => {
    const result = await acquire(...args);
    assert.equal(result.kind, 'granted');
    return (result as { revision: string }).revision;
  };
  const release = async (lease: string, revision: string, options: Partial<Args<'release'>> = {}): Promise<unknown> =>
    run('release', { resource: resource(), shared: false, lease, revision, unlinks: true, ...options });
  const keys = (): string[] => [...member.keys(`${resource()}//`).keys()].map((key) => key.slice(resource().length));

  it('grants an exclusive lock to one host, and names it to the other', async () => {
    const revision = await granted(here, { value: 'mine' });
    const refused = await acquire(there);
    assert.deepEqual('holders' in refused && refused.holders.map(({ value, lease }) => [value, lease]), [
      ['mine', here],
    ]);
    assert.equal((await acquire(there, { shared: true })).kind, 'busy');
    await release(here, revision);
    assert.deepEqual(keys(), []);
    await granted(there);
  });

  it('grants shared locks to both, and an exclusive one to neither', async () => {
    const first = await granted(here, { shared: true });
    const second = await granted(there, { shared: true });
    assert.equal((await acquire(await leaseOf())).kind, 'busy');
    await release(here, first, { shared: true });
    assert.equal((await acquire(here)).kind, 'busy');
    await release(there, second, { shared: true });
    await granted(here);
  });

  it('takes an attempt that was successful for what it is', async () => {
    const value = 'the same attempt';
    assert.equal(await granted(here, { value }), await granted(here, { value }));
    assert.equal(await granted(here, { value }), await granted(here, { value }));
  });

  it('removes what is left on the own lease of an attempt that nobody waits for', async () => {
    const first = await granted(here, { value: 'left' });
    const second = await granted(here, { value: 'later' });
    assert.notEqual(first, second);
    assert.equal(member.keys(`${resource()}//x`).get(`${resource()}//x`), 'later');
    await release(here, second);
    await granted(here, { shared: true, value: 'left' });
    await granted(here, { value: 'exclusive' });
    assert.deepEqual(keys(), ['//x']);
  });

  it('lets a release that comes late alone what was acquired since', async () => {
    const first = await granted(here);
    await release(here, first);
    const second = await granted(here);
    await release(here, first);
    assert.deepEqual(keys(), ['//x']);
    await release(here, second);
    assert.deepEqual(keys(), []);
  });

  it('needs a resource that exists, made or held by another host', async () => {
    assert.equal((await acquire(here, { creates: false })).kind, 'missing');
    await run('create', { resource: resource() });
    await run('create', { resource: resource() });
    const revision = await granted(here, { creates: false });
    await release(here, revision, { unlinks: false });
    assert.deepEqual(keys(), ['//r']);
    assert.deepEqual(await run('delete', { resource: resource() }), { isBusy: false });
    assert.deepEqual(keys(), []);
    assert.deepEqual(await run('delete', { resource: resource() }), { isBusy: false });
    await granted(there, { shared: true });
    await granted(here, { shared: true, creates: false });
    assert.deepEqual(await run('delete', { resource: resource() }), { isBusy: true });
  });

  it('removes a resource with its last lock by AUTOCREATE', async () => {
    await run('create', { resource: resource() });
    const [first, second] = [await granted(here, { shared: true }), await granted(there, { shared: true })];
    await release(here, first, { shared: true });
    assert.equal(keys().length, 2);
    await release(there, second, { shared: true });
    assert.deepEqual(keys(), []);
  });

  it('says when a lease is gone', async () => {
    const lease = await leaseOf();
    assert.equal((await run('keepAlive', { lease })).seconds, 60);
    await granted(lease);
    assert.deepEqual((await run('describe', { lease, after: '' })).keys, [`${resource()}//x`]);
    await run('revoke', { lease });
    await run('revoke', { lease });
    assert.deepEqual(keys(), []);
    assert.equal((await run('keepAlive', { lease })).seconds, 0);
    const host = { key: `/test/hosts/${lease}`, value: 'a host' };
    assert.deepEqual(await run('confirm', { lease, ...host }), { exists: false });
    assert.deepEqual(await run('confirm', { lease: here, ...host }), { exists: true });
    assert.deepEqual(await run('confirm', { lease: here, ...host, value: 'another' }), { exists: true });
    assert.equal(member.keys(host.key).get(host.key), 'a host');
    await assert.rejects(acquire(lease), (error: EtcdError) => error.failure === 'no-lease');
  });

  it('lists all keys on a lease, however many', async () => {
    const lease = await leaseOf();
    const name = 'x'.repeat(200);
    const all = Array.from({ length: 700 }, (_, index) => `/test/many/${name}${String(index).padStart(4, '0')}`);
    await Promise.all(all.map(async (key) => run('put', { key, value: '', lease })));
    const found: string[] = [];
    for (let more = true; more;) {
      const page = await run('describe', { lease, after: found.at(-1) ?? '' });
      assert.ok(JSON.stringify(page).length < MAX_MESSAGE);
      found.push(...page.keys);
      ({ more } = page);
    }
    assert.deepEqual(found, all);
  });

  it('knows its own attempt among very many hosts that share the resource', async () => {
    const leases = await Promise.all(Array.from({ length: 70 }, leaseOf));
    leases.sort((one, other) => (BigInt(one) < BigInt(other) ? -1 : 1));
    for (const lease of leases) await granted(lease, { shared: true });
    const last = leases.at(-1) ?? '';
    const value = 'the same attempt';
    assert.equal(await granted(last, { shared: true, value }), await granted(last, { shared: true, value }));
  });

  it('reports members that do not answer, each with the reason, and goes on with those that do', async () => {
    const closed = 'http://127.0.0.1:1';
    const none = new Etcd(new Gateway({ ...DEFAULT_ETCD, endpoints: [closed] }));
    await assert.rejects(none.run('grant', { seconds: 60 }, 300), {
      failure: 'unreachable',
      message: `etcd does not answer (${closed}: nobody listens there)`,
    });
    const both = new Etcd(new Gateway({ ...DEFAULT_ETCD, endpoints: [closed, member.endpoint] }));
    assert.equal((await both.run('grant', { seconds: 60 }, 2000)).seconds, 60);
    const { members } = await both.run('members', null, 2000);
    assert.deepEqual(
      members.map(({ failure, isLeader }) => [failure, isLeader]),
      [
        ['nobody listens there', undefined],
        [undefined, true],
      ],
    );
  });

  it('says what a full database, a wrong user and a lack of permission are', async () => {
    const other = await EtcdMember.start({ quota: 2 * 1024 * 1024 });
    try {
      const settings = { ...DEFAULT_ETCD, endpoints: [other.endpoint] };
      const full = new Etcd(new Gateway(settings));
      const { lease } = await full.run('grant', { seconds: 60 }, 2000);
      const put = { key: '/big', value: 'x'.repeat(900_000), lease: '0' };
      const fill = async (): Promise<void> => {
        for (let i = 0; i < 20; i++) await full.run('put', put, 2000);
      };
      await assert.rejects(fill(), /etcd is full \(alarm NOSPACE\), .* compacted .* disarmed the alarm/);
      // What is held stays held.
      assert.equal((await full.run('keepAlive', { lease }, 2000)).seconds, 60);
      for (const args of ['user add root:secret', 'user grant-role root root', 'user add lock:word', 'auth enable'])
        assert.equal(other.ctl(...args.split(' ')).status, 0, args);
      const as = (user: string, password: string): Etcd => new Etcd(new Gateway({ ...settings, user, password }));
      const range = { from: '/a', end: '/b', limit: 1 };
      await assert.rejects(full.run('list', range, 1000), /user name is empty/);
      await assert.rejects(as('lock', 'wrong').run('list', range, 1000), /etcd refuses user and password/);
      await assert.rejects(as('lock', 'word').run('list', range, 1000), /lacks the permission .*etcd_prefix/);
      assert.deepEqual(await as('root', 'secret').run('list', range, 2000), { entries: [], more: false });
    } finally {
      await other.close();
    }
  });
});
