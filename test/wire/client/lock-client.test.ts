import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CallTimeout,
  ConnectionLost,
  DEFAULT_LOCKSPACE,
  ErrorCode,
  ErrorDomain,
  LockClient,
  ProtocolError,
  RemoteFailure,
} from '../../../src/client/index.ts';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import type { DaemonKind } from '../../../src/lab/generation.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { FakeDaemon } from '../../support/fake-daemon.ts';

const owner = { uuid: '6a6e3c0a-7a43-4f22-9f0e-0242ac120002', name: 'gäst', id: 1, pid: 5_000_000 };

/** The error that a call was refused with. */
async function refusal(call: Promise<unknown>): Promise<RemoteFailure> {
  const error = await call.then(
    () => assert.fail('it was granted'),
    (caught: unknown) => caught,
  );
  assert.ok(error instanceof RemoteFailure, String(error));
  return error;
}

for (const kind of ['ours', '9.0.0'] satisfies DaemonKind[]) {
  describe(`the lock client with virtlockd ${kind}`, () => {
    let daemon: LockDaemon;
    let client: LockClient;
    let space: string;

    before(async function () {
      skipIf(this, missingDaemon(kind));
      daemon = await startDaemon(kind, kind === 'ours' ? { configuration: 'libvirt_version = "9.0.0"\n' } : {});
      space = join(daemon.lab.directory, 'späce');
    });

    beforeEach(async () => {
      client = await LockClient.connect(daemon.socket);
    });

    afterEach(() => {
      (client as LockClient | undefined)?.close();
    });

    after(async () => {
      await (daemon as LockDaemon | undefined)?.stop();
    });

    it('acquires and releases files', async () => {
      const image = join(daemon.lab.directory, 'disk.img');
      writeFileSync(image, '');
      await client.register(owner);
      await client.acquire(DEFAULT_LOCKSPACE, image);
      assert.equal(lockOn(daemon.pid, image), 'WRITE 0 0');
      const busy = await refusal(client.acquire(DEFAULT_LOCKSPACE, image, { shared: true }));
      assert.deepEqual([busy.code, busy.domain], [ErrorCode.RESOURCE_BUSY, ErrorDomain.LOCKSPACE]);
      assert.equal(busy.isBusy, true);
      assert.deepEqual([busy.codeName, busy.call], ['RESOURCE_BUSY', 'acquireResource']);
      assert.equal(busy.message, `resource busy: Lockspace resource '${image}' is locked`);
      await client.release(DEFAULT_LOCKSPACE, Buffer.from(image));
      await client.acquire(DEFAULT_LOCKSPACE, image, { shared: true });
      assert.equal(lockOn(daemon.pid, image), 'READ 0 0');
      await client.release(DEFAULT_LOCKSPACE, image);
    });

    it('makes lockspaces and resources, named in text or in bytes', async () => {
      await client.createLockspace(space);
      await client.register(owner);
      assert.equal(
        (await refusal(client.newLockspace(space))).message,
        `internal error: Lockspace for path ${space} already exists`,
      );
      await client.newLockspace(join(daemon.lab.directory, 'other'));
      const name = Buffer.from([0x6b, 0xff, 0x79]);
      const file = Buffer.concat([Buffer.from(`${space}/`), name]);
      await client.createResource(space, name);
      assert.equal(existsSync(file), true);
      await client.acquire(space, name);
      assert.equal((await refusal(client.deleteResource(space, name))).isBusy, true);
      await client.release(space, name);
      await client.deleteResource(space, name);
      assert.equal(existsSync(file), false);
      const missing = await refusal(client.acquire(space, name));
      assert.deepEqual([missing.code, missing.errno, missing.isBusy], [ErrorCode.SYSTEM_ERROR, 2, false]);
      await client.acquire(space, name, { autocreate: true });
      assert.equal(existsSync(file), true);
      await client.release(space, name);
      assert.equal(existsSync(file), false);
    });

    it('is told what stands in the way of a call', async () => {
      const early = await refusal(client.acquire(DEFAULT_LOCKSPACE, '/file'));
      assert.deepEqual(
        [early.code, early.domain, early.errno],
        [ErrorCode.OPERATION_INVALID, ErrorDomain.RPC, undefined],
      );
      await client.register({ ...owner, uuid: Buffer.alloc(16, 7) });
      await client.restrict();
      assert.equal((await refusal(client.release('', 'x'))).code, ErrorCode.OPERATION_DENIED);
      assert.equal(client.isOpen, true);
    });

    it('has overlapping calls done in order', async () => {
      await client.register(owner);
      await client.createLockspace(space);
      const names = Array.from({ length: 50 }, (_, index) => `order-${index}`);
      await Promise.all(
        names.flatMap((name) => [client.acquire(space, name, { autocreate: true }), client.release(space, name)]),
      );
    });
  });
}

describe('the lock client', () => {
  let directory: string;
  let socket: string;
  let ear: FakeDaemon;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-client-'));
    socket = join(directory, 'sock');
    ear = await FakeDaemon.listen(socket);
  });

  afterEach(async () => {
    await ear.close();
    rmSync(directory, { recursive: true });
  });

  it('says why it cannot connect', async () => {
    await assert.rejects(LockClient.connect(join(directory, 'none')), { name: 'ConnectionLost', code: 'ENOENT' });
    const aborted = AbortSignal.abort(new Error('never mind'));
    await assert.rejects(LockClient.connect(socket, { signal: aborted }), /never mind/);
  });

  it('gives up waiting in time, and drops the answer that comes late', async () => {
    ear.judge = () => null;
    const client = await LockClient.connect(socket, { timeout: 20 });
    await assert.rejects(client.restrict(), CallTimeout);
    await assert.rejects(client.restrict({ timeout: 10 }), /no answer to restrict within 10 ms/);
    ear.judge = () => undefined;
    await client.restrict({ timeout: 0 });
    assert.equal(client.isOpen, true);
    client.close();
  });

  it('gives up waiting on a signal', async () => {
    ear.judge = () => null;
    const client = await LockClient.connect(socket);
    const abort = new AbortController();
    const call = client.restrict({ signal: abort.signal });
    abort.abort();
    await assert.rejects(call, { name: 'AbortError' });
    await assert.rejects(client.restrict({ signal: abort.signal }), { name: 'AbortError' });
    client.close();
  });

  it('fails with the frames of the caller, also for the end of a connection that several calls met', async () => {
    ear.judge = () => null;
    const client = await LockClient.connect(socket);
    async function whoRestricts(): Promise<void> {
      await client.restrict();
    }
    async function whoReleases(): Promise<void> {
      await client.release('', 'a');
    }
    const calls = [whoRestricts(), whoReleases()];
    const failed = Promise.allSettled(calls);
    ear.disconnect();
    const errors = (await failed).map((result) =>
      result.status === 'rejected' ? (result.reason as unknown) : undefined,
    );
    for (const [index, [name, caller]] of [
      ['restrict', 'whoRestricts'],
      ['releaseResource', 'whoReleases'],
    ].entries()) {
      const error = errors[index];
      assert.ok(error instanceof ConnectionLost);
      assert.equal(error.call, name);
      assert.match(
        error.stack ?? '',
        new RegExp(`^ConnectionLost: the connection to .* was closed\n[^]*at async ${caller ?? ''} `),
      );
    }
  });

  it('tells of the end of a connection, to calls under way, to later ones, and to whoever asked', async () => {
    ear.judge = () => null;
    const client = await LockClient.connect(socket);
    const told = new Promise<ConnectionLost>((resolve) => {
      client.onClose(resolve);
    });
    const call = client.restrict({ timeout: 0 });
    call.catch(() => undefined);
    await assert.rejects(client.restrict({ timeout: 5 }), CallTimeout);
    ear.disconnect();
    await assert.rejects(call, ConnectionLost);
    assert.ok((await told) instanceof ConnectionLost);
    assert.equal(client.isOpen, false);
    await assert.rejects(client.restrict(), ConnectionLost);
  });

  it('ends calls under way when it is closed here', async () => {
    ear.judge = () => null;
    const client = await LockClient.connect(socket);
    const call = client.restrict();
    client.close();
    await assert.rejects(call, /closed here/);
  });

  it('refuses before it sends what cannot be sent', async () => {
    const client = await LockClient.connect(socket);
    await assert.rejects(client.acquire('', 'a\0b'), TypeError);
    await assert.rejects(client.createLockspace('a'.repeat(65_537)), RangeError);
    await assert.rejects(client.register({ ...owner, uuid: 'g'.repeat(32) }), TypeError);
    await client.restrict();
    assert.equal(ear.said[0]?.length, 32);
    client.close();
  });

  it('takes a UUID with dashes or without, in either case, or as bytes', async () => {
    const client = await LockClient.connect(socket);
    const { uuid } = owner;
    for (const form of [
      uuid,
      uuid.toUpperCase(),
      uuid.replaceAll('-', ''),
      Buffer.from(uuid.replaceAll('-', ''), 'hex'),
    ]) {
      await client.register({ ...owner, uuid: form });
    }
    const said = ear.said[0] ?? Buffer.alloc(0);
    const size = said.readUInt32BE(0);
    for (let at = size; at < said.length; at += size) {
      assert.deepEqual(said.subarray(at + 28, at + size), said.subarray(28, size));
    }
    assert.equal(said.length, 4 * size);
    client.close();
  });

  it('leaves a peer that speaks something else', async () => {
    ear.judge = () => Buffer.alloc(0);
    const client = await LockClient.connect(socket);
    await assert.rejects(client.restrict(), ProtocolError);
    client.close();
  });
});
