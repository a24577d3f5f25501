/** A client that does not take its answers, and others that ask for the same lock in etcd. */
import assert from 'node:assert/strict';
import { missingDaemon, missingEtcd } from '../../../src/lab/requirements.ts';
import { encode, lock } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { EtcdScene, SPACE } from './scene.ts';

/** The errno's text in the answer to a resource that does not exist. */
const SYSTEM_ERROR = 38;

describe('a client that takes no answers', function () {
  this.timeout(30_000);

  before(function () {
    skipIf(this, missingDaemon('ours'), missingEtcd());
  });

  afterEach(async () => {
    await EtcdScene.closeAll();
  });

  it('keeps nobody waiting who asks for the same lock, and gets all of them when it does', async () => {
    const scene = await EtcdScene.open();
    const daemon = await scene.daemon();
    const [lazy, other] = [await scene.join(daemon), await scene.join(daemon)];
    // Each call asks etcd.
    const call = lock.acquire(SPACE, 'nothing');
    lazy.socket.pause();
    // Far more answers than its socket has room for, and calls of both take turns.
    const count = 1000;
    lazy.send(Buffer.concat(Array.from({ length: count }, (_, serial) => encode({ ...call, serial }))));
    for (let i = 0; i < count; i++) assert.equal((await other.ask(call))?.code, SYSTEM_ERROR);
    lazy.socket.resume();
    for (let serial = 0; serial < count; serial++) assert.equal((await lazy.receive())?.serial, serial);
  });
});
