import assert from 'node:assert/strict';
import os from 'node:os';
import type { ArgsOf, ResultOf } from '../../../xdr/program.ts';
import type { adminProcedures, TypedParameter } from '../../../xdr/programs/admin.ts';
import { adminHandlers } from '../../../src/admin/handlers.ts';
import type { AdminClient, AdminContext, AdminHost, AdminServer, ClientLimits } from '../../../src/admin/host.ts';
import { int, text, uint } from '../../../src/admin/parameters.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';

type Procedures = typeof adminProcedures;

/** A daemon without sockets that records the handlers' calls. */
class FakeHost implements AdminHost {
  readonly dialect = dialectOf(9_000_000);
  readonly calls: string[] = [];
  readonly servers: FakeServer[] = [new FakeServer('virtlockd', 1024), new FakeServer('admin', 5000)];
  readonly logging = {
    outputs: { text: '3:stderr', count: 1 },
    filters: { text: '', count: 0 },
    isChanged: false,
    setOutputs: (setting: string): void => {
      this.calls.push(`outputs ${JSON.stringify(setting)}`);
    },
    setFilters: (setting: string): void => {
      this.calls.push(`filters ${JSON.stringify(setting)}`);
    },
  };

  setTimeout(seconds: number): void {
    this.calls.push(`timeout ${seconds}`);
  }

  requestEnd(): void {
    this.calls.push('end');
  }
}

class FakeServer implements AdminServer {
  readonly name: string;
  readonly clients = new Map<number, FakeClient>();
  maxClients: number;
  maxAnonymousClients: number;
  priorityWorkers = 0;

  constructor(name: string, limit: number) {
    this.name = name;
    this.maxClients = limit;
    this.maxAnonymousClients = limit;
  }

  setLimits({ maxClients, maxAnonymousClients }: ClientLimits): void {
    this.maxClients = maxClients;
    this.maxAnonymousClients = maxAnonymousClients;
  }

  connect(id: number): FakeClient {
    const client = new FakeClient(this, id);
    this.clients.set(id, client);
    return client;
  }

  get clientCount(): number {
    return this.clients.size;
  }

  adoptAll(): ReadonlyMap<number, FakeClient> {
    return this.clients;
  }
}

class FakeClient implements AdminClient {
  readonly id: number;
  readonly fd = -1;
  readonly connectedAt: number;
  readonly peer = { pid: 4557, uid: os.userInfo().uid, gid: 0 };
  isIdentified = true;
  closing = false;
  private readonly server: FakeServer;

  constructor(server: FakeServer, id: number) {
    this.server = server;
    this.id = id;
    this.connectedAt = 1795358400 + id;
  }

  close(): void {
    this.server.clients.delete(this.id);
  }

  closeAfterReply(): void {
    this.closing = true;
  }
}

describe('the handlers of the admin program', () => {
  let host: FakeHost;
  let client: FakeClient;
  let context: AdminContext;

  function call<K extends keyof Procedures>(name: K, args: ArgsOf<Procedures[K]>): ResultOf<Procedures[K]> {
    return adminHandlers[name](context, args);
  }

  /** The error's code, domain and text. */
  function fault<K extends keyof Procedures>(name: K, args: ArgsOf<Procedures[K]>): string {
    try {
      call(name, args);
    } catch (error) {
      if (error instanceof RpcError) return `${error.code}/${error.domain} ${error.message}`;
      throw error;
    }
    return 'none';
  }

  const on = (name: string): { server: { name: string }; flags: number } => ({ server: { name }, flags: 0 });
  const about = (name: string, id: bigint): ArgsOf<Procedures['getClientInfo']> => ({
    client: { server: { name }, id, timestamp: -1n, transport: 7 },
    flags: 0,
  });

  beforeEach(() => {
    host = new FakeHost();
    const [, admin] = host.servers;
    assert.ok(admin);
    client = admin.connect(7);
    context = { connection: client, host };
  });

  it('list and find servers', () => {
    const servers = [{ name: 'virtlockd' }, { name: 'admin' }];
    assert.deepEqual(call('listServers', { needResults: 1, flags: 0 }), { servers, count: 2 });
    assert.deepEqual(call('listServers', { needResults: 0, flags: 0 }), { servers: [], count: 2 });
    assert.deepEqual(call('lookupServer', { name: 'admin', flags: 99 }), { server: { name: 'admin' } });
  });

  it('report a server that does not exist before anything else', () => {
    const no = "95/7 Server not found: No server named 'x'";
    const adminNo = "95/62 Server not found: no server with matching name 'x' found";
    const params = [uint('a'.repeat(80), 1)];
    const flags = 1;
    assert.equal(fault('lookupServer', { name: 'x', flags }), no);
    assert.equal(fault('getThreadPool', { ...on('x'), flags }), no);
    assert.equal(fault('setThreadPool', { ...on('x'), params, flags }), adminNo);
    assert.equal(fault('listClients', { ...on('x'), needResults: 1, flags }), no);
    assert.equal(fault('lookupClient', { ...on('x'), id: 7n, flags }), no);
    assert.equal(fault('getClientInfo', { ...about('x', 7n), flags }), adminNo);
    assert.equal(fault('closeClient', { ...about('x', 7n), flags }), no);
    assert.equal(fault('getClientLimits', { ...on('x'), flags }), no);
    assert.equal(fault('setClientLimits', { ...on('x'), params, flags }), adminNo);
    assert.equal(fault('updateTls', { ...on('x'), flags }), no);
  });

  it('refuse flags behind the look-ups, and for one procedure between them', () => {
    const refused = (name: string): string => `8/62 unsupported flags (0x80000000) in function ${name}`;
    const flags = 0x80000000;
    const params = [uint('foo', 1)];
    assert.equal(fault('getThreadPool', { ...on('admin'), flags }), refused('adminServerGetThreadPoolParameters'));
    assert.equal(
      fault('setThreadPool', { ...on('admin'), params, flags }),
      refused('adminServerSetThreadPoolParameters'),
    );
    assert.equal(fault('listClients', { ...on('admin'), needResults: 1, flags }), refused('adminServerListClients'));
    assert.equal(fault('lookupClient', { ...on('admin'), id: 0n, flags }), refused('adminServerLookupClient'));
    assert.equal(fault('getClientInfo', { ...about('admin', 7n), flags }), refused('adminClientGetInfo'));
    assert.equal(fault('closeClient', { ...about('admin', 7n), flags }), refused('adminClientClose'));
    assert.equal(fault('getClientLimits', { ...on('admin'), flags }), refused('adminServerGetClientLimits'));
    assert.equal(fault('setClientLimits', { ...on('admin'), params, flags }), refused('adminServerSetClientLimits'));
    assert.equal(fault('updateTls', { ...on('admin'), flags }), refused('adminServerUpdateTlsFiles'));
  });

  it('refuse overlong parameter names before flags', () => {
    const params = [uint('a'.repeat(80), 1)];
    const expected = `1/0 internal error: parameter ${'a'.repeat(80)} too big for destination`;
    assert.equal(fault('setThreadPool', { ...on('admin'), params, flags: 1 }), expected);
    assert.equal(fault('setClientLimits', { ...on('admin'), params, flags: 1 }), expected);
  });

  it('tell of a thread pool that is not there', () => {
    call('setThreadPool', { ...on('admin'), params: [uint('minWorkers', 0), uint('prioWorkers', 4)] });
    assert.deepEqual(call('getThreadPool', on('admin')).params, [
      uint('minWorkers', 0),
      uint('maxWorkers', 0),
      uint('nWorkers', 0),
      uint('freeWorkers', 0),
      uint('prioWorkers', 4),
      uint('jobQueueDepth', 0),
    ]);
    const set = (...params: TypedParameter[]): string => fault('setThreadPool', { ...on('admin'), params });
    const above = '8/0 invalid argument: minWorkers cannot be larger than maxWorkers';
    assert.equal(set(uint('minWorkers', 5)), above);
    assert.equal(set(uint('minWorkers', 5), uint('maxWorkers', 4)), above);
    const switched = '8/0 invalid argument: maxWorkers must not be switched from zero to non-zero and vice versa';
    assert.equal(set(uint('maxWorkers', 1)), switched);
    assert.equal(set(uint('minWorkers', 1), uint('maxWorkers', 1)), switched);
    assert.equal(set(), 'none');
  });

  it('list and find clients', () => {
    host.servers[1]?.connect(9);
    const refer = (id: number): object => {
      const timestamp = BigInt(1795358400 + id);
      return { server: { name: 'admin' }, id: BigInt(id), timestamp, transport: 0 };
    };
    const clients = [refer(7), refer(9)];
    assert.deepEqual(call('listClients', { ...on('admin'), needResults: 1 }), { clients, count: 2 });
    assert.deepEqual(call('listClients', { ...on('admin'), needResults: 0 }), { clients: [], count: 2 });
    assert.deepEqual(call('listClients', { ...on('virtlockd'), needResults: 1 }), { clients: [], count: 0 });
    assert.deepEqual(call('lookupClient', { ...on('admin'), id: 9n }), { client: refer(9) });
    for (const id of [0n, 8n, 2n ** 63n, 2n ** 64n - 1n]) {
      const missing = `96/7 Client not found: No client with matching ID '${id.toString()}'`;
      assert.equal(fault('lookupClient', { ...on('admin'), id }), missing);
      assert.equal(fault('closeClient', about('admin', id)), missing);
      const adminMissing = `96/62 Client not found: no client with matching id '${id.toString()}' found`;
      assert.equal(fault('getClientInfo', about('admin', id)), adminMissing);
    }
  });

  it('count more clients than a list may have', () => {
    for (let id = 1; id <= 16385; id++) host.servers[0]?.connect(id);
    assert.equal(call('listClients', { ...on('virtlockd'), needResults: 0 }).count, 16385);
    const many = "39/62 Too many clients '16385' for limit '16384'";
    assert.equal(fault('listClients', { ...on('virtlockd'), needResults: 1 }), many);
    host.servers[0]?.clients.delete(1);
    assert.equal(call('listClients', { ...on('virtlockd'), needResults: 1 }).clients.length, 16384);
  });

  it('tell who a client is once it has made a call', () => {
    assert.deepEqual(call('getClientInfo', about('admin', 7n)).params, [
      { field: 'readonly', value: { type: 6, value: 0 } },
      int('unix_user_id', os.userInfo().uid),
      text('unix_user_name', os.userInfo().username),
      int('unix_group_id', 0),
      text('unix_group_name', 'root'),
      int('unix_process_id', 4557),
    ]);
    client.isIdentified = false;
    const unknown = '1/7 internal error: No identity information available for client';
    assert.equal(fault('getClientInfo', about('admin', 7n)), unknown);
  });

  it('close clients', () => {
    host.servers[0]?.connect(3);
    call('closeClient', about('virtlockd', 3n));
    assert.equal(host.servers[0]?.clients.size, 0);
    assert.equal(client.closing, false);
    call('close', undefined);
    assert.equal(client.closing, true);
  });

  it('change limits that do not contradict each other', () => {
    const set = (...params: TypedParameter[]): string => fault('setClientLimits', { ...on('virtlockd'), params });
    const contradict = `8/7 invalid argument: ${host.dialect.contradictingLimits}`;
    assert.equal(set(uint('nclients_max', 5)), contradict);
    assert.equal(set(uint('nclients_unauth_max', 1025)), contradict);
    assert.equal(set(uint('nclients_unauth_max', 5)), 'none');
    assert.equal(set(uint('nclients_max', 5)), 'none');
    assert.equal(set(uint('nclients_max', 3), uint('nclients_unauth_max', 4)), contradict);
    assert.equal(set(uint('nclients_max', 0xffffffff), uint('nclients_unauth_max', 0)), 'none');
    assert.equal(set(uint('nclients', 1)), "74/0 argument unsupported: parameter 'nclients' not supported");
    host.servers[0]?.connect(1);
    assert.deepEqual(call('getClientLimits', on('virtlockd')).params, [
      uint('nclients_max', 0xffffffff),
      uint('nclients', 1),
      uint('nclients_unauth_max', 0),
      uint('nclients_unauth', 0),
    ]);
  });

  it('tell and change log settings', () => {
    assert.deepEqual(call('getLogOutputs', { flags: 0 }), { outputs: '3:stderr', count: 1 });
    assert.deepEqual(call('getLogFilters', { flags: 0 }), { filters: null, count: 0 });
    host.logging.filters = { text: '3:*rpc* ', count: 1 };
    assert.deepEqual(call('getLogFilters', { flags: 0 }), { filters: '3:*rpc* ', count: 1 });
    call('setLogOutputs', { setting: '4:stderr', flags: 0 });
    call('setLogOutputs', { setting: null, flags: 0 });
    call('setLogFilters', { setting: '1:x', flags: 0 });
    call('setLogFilters', { setting: null, flags: 0 });
    assert.deepEqual(host.calls, ['outputs "4:stderr"', 'outputs ""', 'filters "1:x"', 'filters ""']);
  });

  it('have no TLS files to read', () => {
    const none = '1/7 internal error: no tls service found, unable to update tls files';
    assert.equal(fault('updateTls', on('admin')), none);
  });

  it('end the daemon without an answer', () => {
    assert.deepEqual(call('getLibVersion', undefined), { version: 9_000_000n });
    call('open', { flags: 0 });
    call('setTimeout', { seconds: 30, flags: 0 });
    call('shutdown', { flags: 1 });
    assert.deepEqual(host.calls, ['timeout 30', 'end']);
    assert.equal(host.servers[1]?.clients.size, 0);
  });
});
