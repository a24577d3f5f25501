import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { adminProgram } from '../../../xdr/programs/admin.ts';
import { Client } from '../../../src/client/client.ts';
import { ConnectionLost } from '../../../src/client/errors.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

describe('a daemon that leaves the sockets of socket units to the next one', function () {
  this.timeout(30_000);
  let scene: StoreScene;

  afterEach(async () => {
    await scene.end();
  });

  /** Ends the daemon, which leaves all to the next. That starts at `restart yes`. */
  async function leave(): Promise<void> {
    await scene.manager.tell('restart no');
    process.kill(scene.pid, 'SIGTERM');
    await scene.manager.next('ended');
  }

  async function startNext(): Promise<void> {
    await scene.manager.tell('restart yes');
    await scene.served();
  }

  /** A call of a client that connects while no daemon runs. */
  async function register(): Promise<{ readonly peer: Peer; readonly answer: Promise<string> }> {
    const peer = await scene.client();
    const answer = peer.ask(lock.register(RIVAL)).then((error) => error?.message ?? 'registered');
    return { peer, answer: answer.catch((error: unknown) => String(error)) };
  }

  /** Runs a step while no daemon runs, with a lock that a waiting connection releases. Returns the connection that has acquired it. */
  async function loseRelease(meanwhile: () => Promise<void>): Promise<Peer> {
    const peer = await scene.client(OWNER);
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    await leave();
    const waiting = await scene.client();
    const lost = assert.rejects(waiting.must(lock.register(OWNER)));
    await meanwhile();
    await startNext();
    await lost;
    return peer;
  }

  it('is followed by one that answers what waited there', async () => {
    scene = await StoreScene.begin({ hasSocketUnits: true });
    await leave();
    const { answer } = await register();
    await scene.manager.tell('sockets');
    await startNext();
    assert.equal(await answer, 'registered');
    assert.equal(await (await register()).answer, 'registered');
    assert.equal(await scene.stored('L'), 0);
  });

  it('leaves them where they are at its end, though one before it has listened there itself', async () => {
    scene = await StoreScene.begin();
    await leave();
    await scene.manager.tell('sockets');
    await startNext();
    assert.equal(await (await register()).answer, 'registered');
    await scene.manager.tell('restart no');
    const admin = await Client.connect(scene.manager.adminSocket);
    await admin.call(adminProgram, 'open', { flags: 0 });
    await assert.rejects(admin.call(adminProgram, 'shutdown', { flags: 0 }), ConnectionLost);
    await scene.manager.next('ended');
    for (const path of [scene.manager.socket, scene.manager.adminSocket]) assert(existsSync(path), path);
  });

  it('leaves them to serve, even if the next one cannot use the record', async () => {
    scene = await StoreScene.begin({ hasSocketUnits: true });
    await leave();
    await scene.manager.tell('damage R 0 0');
    await startNext();
    assert(scene.manager.log.includes('The state record cannot be used'));
    assert.equal(await (await register()).answer, 'registered');
  });

  it('ends connections that waited at sockets which are gone, if the next one cannot use the record', async () => {
    scene = await StoreScene.begin({ hasSocketUnits: true });
    await leave();
    const { answer } = await register();
    await scene.manager.tell('sockets');
    await scene.manager.tell('damage R 0 0');
    await startNext();
    assert.match(await answer, /closed instead of a reply|ECONNRESET/);
  });

  it('has an owner granted again what it may have released there, where the store had no room for them', async () => {
    // The record, the queue of files, and a connection.
    scene = await StoreScene.begin({ hasSocketUnits: true, limit: 3, env: { FDSTORE: '4096' } });
    const peer = await loseRelease(async () => scene.manager.tell('sockets'));
    const rival = await scene.client(RIVAL);
    assert(await scene.isRefused(rival, 'one'));
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    assert(await scene.isRefused(peer, 'one'));
    await peer.must(lock.release('', scene.at('one')));
    assert(!(await scene.isRefused(rival, 'one')));
  });

  it('is followed by one that answers what waited there once it may have another client', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'virtlockd-units-'));
    try {
      const configuration = join(directory, 'virtlockd.conf');
      writeFileSync(configuration, 'max_clients = 2\n');
      scene = await StoreScene.begin({ hasSocketUnits: true, args: ['--config', configuration] });
      const [one, other] = [await scene.client(OWNER), await scene.client(OWNER)];
      await leave();
      const { peer, answer } = await register();
      await scene.manager.tell('sockets');
      await startNext();
      one.close();
      assert.equal(await answer, 'registered');
      // They are in the store like those of the first.
      peer.close();
      await leave();
      const next = await register();
      await scene.manager.tell('sockets');
      await startNext();
      assert.equal(await next.answer, 'registered');
      other.close();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('is followed by one that answers what waited there, though another died over it', async () => {
    scene = await StoreScene.begin({ hasSocketUnits: true });
    await leave();
    const { answer } = await register();
    await scene.manager.tell('sockets');
    scene.traceNext('--inject=accept4:signal=KILL:when=1');
    await startNext();
    assert.equal(await answer, 'registered');
  });

  it('has an owner granted again what it may have released there, where the next one has died over it', async () => {
    scene = await StoreScene.begin({ hasSocketUnits: true });
    const peer = await loseRelease(async () => {
      await scene.manager.tell('sockets');
      // The newcomer is accepted, and not stored yet.
      scene.traceNext('--inject=sendmsg:signal=KILL:when=1');
    });
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    assert(await scene.isRefused(peer, 'one'));
  });
});
