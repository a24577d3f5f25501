/** Two calls for one lock in etcd at the same time: only one may be granted, and what is granted must be there. */
import assert from 'node:assert/strict';
import { missingDaemon, missingEtcd } from '../../../src/lab/requirements.ts';
import { autocreate, lock, shared } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { EtcdScene, SPACE } from './scene.ts';

const BUSY = 87;

describe('two calls for one lock in etcd', function () {
  this.timeout(60_000);

  before(function () {
    skipIf(this, missingDaemon('ours'), missingEtcd());
  });

  afterEach(async () => {
    await EtcdScene.closeAll();
  });

  for (const [what, flags, codes, left] of [
    ['exclude each other', 0, [undefined, BUSY], 1],
    ['share it', shared, [undefined, undefined], 1],
  ] as const)
    it(`${what} by two names of it`, async () => {
      const scene = await EtcdScene.open({ seconds: 30 });
      const daemon = await scene.daemon();
      const [one, two] = [await scene.join(daemon), await scene.join(daemon)];
      scene.member.signal('SIGSTOP');
      const asked = [one, two].map(async (peer, index) =>
        peer.ask(lock.acquire(SPACE, index === 0 ? 'disk' : './disk', flags | autocreate)),
      );
      // Served behind both.
      const other = await scene.visit(daemon);
      await other.must(lock.createLockspace('/var/lib/libvirt/lockd/files'));
      scene.member.signal('SIGCONT');
      const answers = await Promise.all(asked);
      assert.deepEqual(answers.map((error) => error?.code).sort(), [...codes].sort());
      // What is given back has been given back by then.
      const last = await scene.connect(daemon);
      await last.must(lock.acquire(SPACE, 'another', autocreate));
      await last.must(lock.release(SPACE, 'another'));
      assert.equal(scene.keys().length, left);
    });
});
