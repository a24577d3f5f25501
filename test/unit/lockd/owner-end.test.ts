import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { XdrWriter } from '../../../xdr/codec.ts';
import { LockClient } from '../../../src/lockd/client.ts';
import type { KillerHost } from '../../../src/lockd/killer.ts';
import { OwnerEnds } from '../../../src/lockd/owner-end.ts';
import { Lockspaces, type Lockspace } from '../../../src/lockspace/lockspaces.ts';
import { unknownOwner } from '../../../src/lockspace/owner.ts';
import { dialectOf } from '../../../src/rpc/dialect.ts';
import { encode } from '../../lab/wire.ts';
import { Link, until } from '../support/link.ts';
import { lockOf, temporaryDirectory } from '../support/locks.ts';
import { writeFileSync } from 'node:fs';

describe('the end of an owner', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let lockspaces: Lockspaces;
  let files: Lockspace;
  let killed: string[];
  let ends: OwnerEnds;
  let link: Link;

  const host: KillerHost = {
    kill: (pid, signal) => {
      killed.push(`${pid} ${signal}`);
      throw Object.assign(new Error('gone'), { code: 'ESRCH' });
    },
    startTime: () => '1',
    setTimeout: () => undefined,
  };
  const acquire = (name: string, pid: number, flags = 2): void => {
    lockspaces.acquire(files, name, flags, { owner: unknownOwner(pid), since: 0, client: 1 });
  };
  const clientOf = (pid: number | null): LockClient => {
    const client = new LockClient(link.connection);
    if (pid !== null) client.owner = { ...unknownOwner(pid), id: 1 };
    return client;
  };

  beforeEach(() => {
    directory = temporaryDirectory();
    lockspaces = new Lockspaces(dialectOf(12_008_000));
    files = lockspaces.create(directory.path);
    killed = [];
    ends = new OwnerEnds(lockspaces, host);
    link = new Link();
    link.connection.start();
  });
  afterEach(() => {
    for (const resource of [...files.resources.values()]) lockspaces.endResource(resource);
    link.dispose();
    directory.remove();
  });

  it('releases and kills when its own connection ends', async () => {
    acquire('a', process.pid);
    acquire('b', 200);
    ends.clientClosed(clientOf(process.pid));
    assert.deepEqual(
      [...files.resources.values()].map(({ name }) => name),
      ['b'],
    );
    await ends.settled();
  });

  it('kills whom it releases', () => {
    acquire('a', 300);
    acquire('b', 300);
    ends.end(300);
    assert.deepEqual(killed, ['300 SIGTERM']);
    assert.equal(files.resources.size, 0);
  });

  it('changes nothing for an owner without locks, for none, and for one on whose behalf another process called', () => {
    ends.clientClosed(clientOf(process.pid));
    acquire('a', 200);
    ends.clientClosed(clientOf(200));
    ends.clientClosed(clientOf(null));
    assert.deepEqual(killed, []);
    assert.equal(files.resources.size, 1);
  });

  it('leaves the shares of others', () => {
    acquire('a', 300, 3);
    acquire('a', 300, 3);
    acquire('a', 400, 3);
    ends.end(300);
    assert.deepEqual(
      files.resources.get('a')?.holds.map(({ owner }) => owner.pid),
      [400],
    );
  });

  it('takes many releases in slices, serves others between them, and forgets none', async () => {
    const count = 3000;
    for (let i = 0; i < count; i++) acquire(`r${i}`, 300);
    acquire('other', 400);
    ends.end(300);
    const left = files.resources.size;
    assert.ok(left > 1, 'all were released at once');
    // Another owner ends meanwhile, and something is acquired for the first one again.
    ends.end(400);
    acquire('r0', 300);
    let turns = 0;
    while (files.resources.size > 1) {
      await turn();
      turns++;
    }
    assert.ok(turns > 1);
    assert.deepEqual(
      [...files.resources.values()].map(({ name }) => name),
      ['r0'],
      'what was acquired later stays',
    );
  });

  it('finishes at once when it has to, before a restart', () => {
    for (let i = 0; i < 3000; i++) acquire(`r${i}`, 300);
    ends.end(300);
    ends.finish();
    assert.equal(files.resources.size, 0);
  });
});

describe('a descriptor of a held file', () => {
  it('sent over a connection is dropped without dropping the lock', async () => {
    const directory = temporaryDirectory();
    const lockspaces = new Lockspaces(dialectOf(12_008_000));
    const file = `${directory.path}/a`;
    writeFileSync(file, '');
    lockspaces.acquire(lockspaces.default, file, 0, { owner: unknownOwner(1), since: 0, client: 1 });
    const resource = lockspaces.default.resources.get(file);
    assert.ok(resource !== undefined);
    const link = new Link();
    link.answer = (_: Buffer, out: XdrWriter) => {
      out.u32(1);
    };
    link.connection.start();
    // Unannounced, announced, and announced but never to be served.
    link.send(encode({}), [resource.file.fd]);
    link.send(encode({ type: 4, payload: Buffer.from([0, 0, 0, 1]) }));
    link.send(Buffer.from([0]), [resource.file.fd]);
    link.send(encode({ type: 4, payload: Buffer.from([0, 0, 0, 2]) }));
    link.send(Buffer.from([0]), [resource.file.fd]);
    await until('two are served', () => link.served.length === 2);
    link.dispose();
    assert.equal(lockOf(file), 'WRITE');
    lockspaces.endResource(resource);
    directory.remove();
  });
});
