/** The life of a lock in etcd: two hosts, owners that end, an etcd that does not answer, and the end of the lease. */
import assert from 'node:assert/strict';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingEtcd } from '../../../src/lab/requirements.ts';
import type { LockDaemon } from '../../../src/lab/start.ts';
import { autocreate, lock, shared } from '../../../src/lab/wire.ts';
import { childrenOf, nameOf } from '../../../src/proc/processes.ts';
import { skipIf } from '../../support/skip.ts';
import { EtcdScene, SPACE } from './scene.ts';

const BUSY = 87;
const UNREACHABLE = 38;
const take = (name = 'disk', flags = 0): ReturnType<typeof lock.acquire> =>
  lock.acquire(SPACE, name, flags | autocreate);
const give = (name = 'disk'): ReturnType<typeof lock.release> => lock.release(SPACE, name);

describe('locks in etcd', function () {
  this.timeout(60_000);

  before(function () {
    skipIf(this, missingDaemon('ours'), missingEtcd());
  });

  afterEach(async () => {
    await EtcdScene.closeAll();
  });

  const isAlive = (pid: number): boolean => {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  };
  const logged = async (daemon: LockDaemon, text: RegExp, limit = 20_000): Promise<unknown> =>
    eventually(String(text), () => text.test(daemon.log), limit);

  describe('of two hosts', () => {
    it('exclude each other, and name the holder', async () => {
      const scene = await EtcdScene.open();
      const [one, two] = [await scene.daemon(), await scene.daemon()];
      const [here, there] = [await scene.join(one, undefined, 'db'), await scene.join(two, undefined, 'web')];
      await here.must(take());
      assert.equal((await there.ask(take()))?.code, BUSY);
      assert.equal((await there.ask(take('disk', shared)))?.code, BUSY);
      assert.equal((await there.ask(lock.deleteResource(SPACE, 'disk')))?.code, BUSY);
      await here.must(give());
      await there.must(take());
      await there.must(take('share', shared));
      await here.must(take('share', shared));
      assert.equal((await here.ask(take('share')))?.code, BUSY);
      assert.equal(scene.keys().length, 3);
      const [value = ''] = scene.member.keys(`/virtlockd/locks${SPACE}/disk//x`).values();
      const { owners, mode } = JSON.parse(value) as { owners: { name: string }[]; mode: string };
      assert.deepEqual([owners[0]?.name, mode], ['web', 'exclusive']);
    });

    it('go with an owner when its process is gone, not before', async () => {
      const scene = await EtcdScene.open();
      const [one, two] = [await scene.daemon(), await scene.daemon()];
      const owner = scene.owner();
      const [here, there] = [await scene.join(one, owner.pid), await scene.join(two)];
      await here.must(take());
      here.close();
      assert.equal((await there.ask(take()))?.code, BUSY);
      owner.process.kill('SIGKILL');
      await eventually('the lock is free', async () => (await there.ask(take())) === undefined);
    });

    it('end with the daemon, which ends the owners first', async () => {
      const scene = await EtcdScene.open();
      const [one, two] = [await scene.daemon(), await scene.daemon()];
      const owner = scene.owner();
      await (await scene.join(one, owner.pid)).must(take());
      const there = await scene.join(two);
      await one.process.stop('SIGTERM');
      assert.equal(isAlive(owner.pid), false, one.log);
      await there.must(take());
    });
  });

  it('are refused to an owner that could not be ended in time', async () => {
    const scene = await EtcdScene.open();
    const peer = await scene.join(await scene.daemon(), 4_200_000);
    const error = await peer.ask(take());
    assert.equal(error?.code, UNREACHABLE);
    assert.match(error.message ?? '', /owner 4200000 \(guest\) could not be ended before the lease/);
    // That is found out while etcd works on the lock, which it gets back.
    await eventually('the key is gone', () => scene.keys().length === 0);
    await (await scene.join(await scene.daemon())).must(take());
  });

  it('are not granted, and the reason is told, while etcd does not answer; others are served', async () => {
    const scene = await EtcdScene.open({ seconds: 6 });
    const daemon = await scene.daemon();
    const [peer, other] = [await scene.join(daemon), await scene.join(daemon)];
    await peer.must(take('first'));
    scene.member.signal('SIGSTOP');
    const asked = performance.now();
    const answer = peer.ask(take());
    await other.must(lock.createLockspace('/var/lib/libvirt/lockd/files'));
    assert.ok(performance.now() - asked < 1500);
    const error = await answer;
    assert.equal(error?.code, UNREACHABLE);
    // A busy machine may be late: the lease has ended by then.
    const reason =
      /^Unable to acquire lock on '.*\/disk': (The lease .* alive: )?etcd does not answer \(http:.*no answer/;
    assert.match(error.message ?? '', reason);
    scene.member.signal('SIGCONT');
    // Whatever has become of that attempt, it is this host's.
    await eventually('the lock is granted', async () => (await peer.ask(take())) === undefined);
    assert.equal(scene.keys().length, 2);
  });

  it('stay when etcd is back before the margin', async () => {
    const scene = await EtcdScene.open({ seconds: 12 });
    const daemon = await scene.daemon();
    const owner = scene.owner();
    const peer = await scene.join(daemon, owner.pid);
    await peer.must(take());
    await scene.member.kill();
    await logged(daemon, /The lease of this host is not kept alive/);
    await scene.member.run();
    await logged(daemon, /etcd answers again/);
    assert.equal(isAlive(owner.pid), true);
    await peer.must(give());
    assert.deepEqual(scene.keys(), []);
  });

  it('end with their owners before the lease does, and the host begins afresh', async () => {
    const scene = await EtcdScene.open({ seconds: 3 });
    const daemon = await scene.daemon();
    const [owner, bystander] = [scene.owner(), scene.owner()];
    const peer = await scene.join(daemon, owner.pid);
    const by = await scene.join(daemon, bystander.pid);
    await by.must(lock.acquire('', `${daemon.lab.directory}/local`, autocreate));
    await by.must(take('given back'));
    await by.must(give('given back'));
    await peer.must(take());
    const stopped = performance.now();
    scene.member.signal('SIGSTOP');
    await owner.ended;
    const took = performance.now() - stopped;
    assert.ok(took > 500 && took < 3000, `${took}`);
    await logged(daemon, /The lease [0-9a-f]+ of this host has ended .*killing 1 owners of 1 locks: 'disk'/);
    scene.member.signal('SIGCONT');
    await logged(daemon, /getting another lease/);
    const next = await scene.join(daemon);
    await eventually('a lock is granted', async () => (await next.ask(take())) === undefined);
    assert.equal(isAlive(bystander.pid), true);
  });

  it('end at once with a lease that an operator has revoked', async () => {
    const scene = await EtcdScene.open({ seconds: 12 });
    const daemon = await scene.daemon();
    const owner = scene.owner();
    await (await scene.join(daemon, owner.pid)).must(take());
    const [key = ''] = scene.member.keys('/virtlockd/hosts/').keys();
    assert.equal(scene.member.ctl('lease', 'revoke', key.slice('/virtlockd/hosts/'.length)).status, 0);
    await owner.ended;
    await logged(daemon, /etcd does not have it any more/);
    const next = await scene.join(daemon);
    await eventually('a lock is granted', async () => (await next.ask(take())) === undefined);
  });

  it('outlive the client process, which is started again', async () => {
    const scene = await EtcdScene.open({ seconds: 20 });
    const daemon = await scene.daemon();
    const peer = await scene.join(daemon);
    await peer.must(take());
    const child = await clientOf(daemon);
    process.kill(child, 'SIGKILL');
    await logged(daemon, /The client of etcd has ended/);
    await peer.must(give());
    assert.deepEqual(scene.keys(), []);
    // One that hangs is replaced, too.
    process.kill(await clientOf(daemon), 'SIGSTOP');
    assert.equal((await peer.ask(take()))?.code, UNREACHABLE);
    await eventually('a lock is granted', async () => (await peer.ask(take())) === undefined);
  });

  it('that nobody waits for any more are given back', async () => {
    const scene = await EtcdScene.open({ seconds: 12 });
    const daemon = await scene.daemon();
    const [peer, other] = [await scene.join(daemon), await scene.join(daemon)];
    scene.member.signal('SIGSTOP');
    const answer = peer.ask(take()).catch(() => undefined);
    await other.must(lock.createLockspace('/var/lib/libvirt/lockd/files'));
    peer.close();
    scene.member.signal('SIGCONT');
    await answer;
    await eventually('it is free', async () => {
      await other.must(take('another'));
      await other.must(give('another'));
      return scene.keys().length === 0;
    });
    await other.must(take());
  });
});

/** The pid of the daemon's client of etcd. */
async function clientOf(daemon: LockDaemon): Promise<number> {
  return eventually('the client runs', () => childrenOf(daemon.pid).find((pid) => nameOf(pid) === 'virtlockd-etcd'));
}
