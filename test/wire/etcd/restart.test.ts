/** The lease and the locks in etcd outlive a restart and a death of the daemon; a program that does not know them is no successor. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingEtcd } from '../../../src/lab/requirements.ts';
import { C_PROGRAM, displace, type LockDaemon, programOf, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { childrenOf, nameOf } from '../../../src/proc/processes.ts';
import { autocreate, lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { StoreScene } from '../store/scene.ts';
import { EtcdScene, guardsOf, SPACE } from './scene.ts';

const BUSY = 87;
const take = (name = 'disk', flags = 0): ReturnType<typeof lock.acquire> =>
  lock.acquire(SPACE, name, flags | autocreate);
const give = (name = 'disk'): ReturnType<typeof lock.release> => lock.release(SPACE, name);

describe('locks in etcd over the end of the program', function () {
  this.timeout(60_000);
  let store: StoreScene | undefined;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingEtcd());
  });

  afterEach(async () => {
    await store?.end();
    store = undefined;
    await EtcdScene.closeAll();
  });

  const isAlive = (pid: number): boolean => {
    try {
      process.kill(pid, 0);
      return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
    } catch {
      return false;
    }
  };

  it('go on in a restart, with the lease and the process that keeps it', async () => {
    const scene = await EtcdScene.open({ seconds: 4 });
    const daemon = await scene.daemon();
    const [owner, sharer] = [scene.owner(), scene.owner()];
    const [peer, other] = [await scene.join(daemon, owner.pid), await scene.join(daemon, sharer.pid)];
    await peer.must(take());
    await peer.must(take('share', shared));
    await other.must(take('share', shared));
    const before = scene.keys();
    for (let i = 0; i < 3; i++) await reexecute(daemon);
    assert.equal((await other.ask(take()))?.code, BUSY);
    assert.deepEqual(scene.keys(), before);
    // Longer than the lease: it is kept alive.
    const [key = ''] = scene.member.keys('/virtlockd/hosts/').keys();
    const until = performance.now() + 5000;
    await eventually('the lease has had its time', () => performance.now() > until);
    assert.deepEqual([...scene.member.keys('/virtlockd/hosts/').keys()], [key]);
    assert.equal(isAlive(owner.pid), true, daemon.log);
    await peer.must(give('share'));
    await other.must(give('share'));
    await peer.must(give());
    await other.must(take());
    assert.deepEqual(scene.keys(), [`${SPACE}/disk//x`]);
    // The guard is nobody's child.
    assert.deepEqual(children(daemon), ['virtlockd-etcd']);
    // What was taken before the restarts ends with the lease, too.
    scene.member.signal('SIGSTOP');
    await sharer.ended;
    assert.equal(isAlive(owner.pid), true);
  });

  it('stay with their settings in a restart that would change these', async () => {
    const scene = await EtcdScene.open({ seconds: 10 });
    const daemon = await scene.daemon();
    const peer = await scene.join(daemon);
    await peer.must(take());
    daemon.lab.write(daemon.lab.configuration, 'log_level = 1\n');
    await reexecute(daemon);
    assert.match(daemon.log, /The settings of etcd stay as they were, because locks are held there/);
    await peer.must(give());
    assert.deepEqual(scene.keys(), []);
    await reexecute(daemon);
    // Of a directory now, which is not there.
    assert.match((await peer.ask(take()))?.message ?? '', /No such file or directory/);
    await eventually('the client has ended, and is reaped', () => children(daemon).length === 0);
    await eventually('the guard has ended', () => guardsOf(daemon).length === 0);
  });

  it('keep their guard, which is replaced where it has nobody to guard', async () => {
    const scene = await EtcdScene.open();
    const daemon = await scene.daemon();
    const peer = await scene.join(daemon);
    const only = async (what: string, isIt: (pid: number) => boolean): Promise<number> =>
      eventually(what, () => {
        const [pid = 0, ...others] = guardsOf(daemon);
        return others.length === 0 && pid > 0 && isIt(pid) && pid;
      });
    const first = await only('a guard', () => true);
    await reexecute(daemon);
    const second = await only('another guard', (pid) => pid !== first);
    await peer.must(take());
    await reexecute(daemon);
    await peer.must(take('second'));
    assert.deepEqual(guardsOf(daemon), [second]);
  });

  it('do not concern who has given them back, when the settings change', async () => {
    const scene = await EtcdScene.open({ seconds: 4 });
    const daemon = await scene.daemon();
    const owner = scene.owner();
    const peer = await scene.join(daemon, owner.pid);
    await peer.must(take());
    daemon.lab.write(daemon.lab.configuration, scene.configuration.replace('= 4', '= 5'));
    process.kill(daemon.pid, 'SIGSTOP');
    const given = peer.must(give());
    process.kill(daemon.pid, 'SIGUSR1');
    process.kill(daemon.pid, 'SIGCONT');
    await given;
    await reexecute(daemon);
    await eventually('there is one guard', () => guardsOf(daemon).length === 1);
    const until = performance.now() + 4500;
    await eventually('the lease before has ended', () => performance.now() > until);
    assert.equal(isAlive(owner.pid), true, daemon.log);
  });

  it('are calls that wait in a restart', async () => {
    const scene = await EtcdScene.open({ seconds: 20 });
    const daemon = await scene.daemon();
    const peer = await scene.join(daemon);
    await peer.must(take('first'));
    scene.member.signal('SIGSTOP');
    const answer = peer.ask(take());
    const other = await scene.join(daemon);
    await other.must(lock.createLockspace('/var/lib/libvirt/lockd/files'));
    await reexecute(daemon);
    scene.member.signal('SIGCONT');
    assert.equal(await answer, undefined);
    await peer.must(give());
    // etcd may have been late with an attempt of the previous client; the daemon then removes what that has left.
    await eventually('only the other lock is left', () => scene.keys().join() === `${SPACE}/first//x`, 40_000);
  });

  describe('when the successor does not know them', () => {
    before(function () {
      skipIf(this, missingDaemon('9.0.0'));
    });

    it('keep the daemon from being exchanged, and the reason lists them', async () => {
      const scene = await EtcdScene.open();
      const lab = await openLab();
      displace(lab, programOf('ours'));
      const daemon = await startDaemon('ours', { lab, program: PROGRAM, configuration: scene.configuration });
      scene.daemons.push(daemon);
      const owner = scene.owner();
      const peer = await scene.join(daemon, owner.pid, 'db');
      await peer.must(take());
      lab.install(C_PROGRAM);
      process.kill(daemon.pid, 'SIGUSR1');
      await eventually('it is refused', () => daemon.log.includes('Unable to re-execute, service goes on'));
      assert.match(
        daemon.log,
        new RegExp(`1 lock is held in etcd, of which the other program knows nothing: 'disk' of ${owner.pid} \\(db\\)`),
      );
      assert.doesNotMatch(daemon.log, /in files of this host/);
      await peer.must(give());
      process.kill(daemon.pid, 'SIGUSR1');
      await eventually(
        'C serves',
        () =>
          nameOf(daemon.pid) === 'virtlockd' && !readFileSync(`/proc/${daemon.pid}/cmdline`, 'latin1').includes('node'),
      );
      assert.match(
        daemon.log,
        new RegExp(`warning : .*keeps lockspaces below '${SPACE}' in files of this host, not in etcd`),
      );
    });
  });

  describe('when the daemon dies', () => {
    const file = `/tmp/virtlockd-etcd-${process.pid}.conf`;

    afterEach(() => {
      rmSync(file, { force: true });
    });

    async function begin(
      seconds: number,
    ): Promise<{ scene: EtcdScene; store: StoreScene; client: (pid: number) => Promise<Peer> }> {
      const scene = await EtcdScene.open({ seconds });
      writeFileSync(file, scene.configuration);
      store = await StoreScene.begin({}, `set -- "$@" --config ${file}`);
      const present = store;
      const client = async (pid: number): Promise<Peer> => {
        const peer = await present.client({ pid });
        await peer.must(lock.createLockspace(SPACE));
        return peer;
      };
      return { scene, store, client };
    }

    it('go on with the next one', async () => {
      const { scene, store: present, client } = await begin(6);
      const [owner, other] = [scene.owner(), scene.owner()];
      const [peer, rival] = [await client(owner.pid), await client(other.pid)];
      await peer.must(take());
      await peer.must(take('share', shared));
      const before = scene.keys();
      for (let i = 0; i < 3; i++) await present.kill();
      assert.equal((await rival.ask(take()))?.code, BUSY);
      const until = performance.now() + 7000;
      await eventually('the lease has had its time', () => performance.now() > until);
      assert.equal((await rival.ask(take()))?.code, BUSY);
      assert.deepEqual(scene.keys(), before);
      assert.equal(isAlive(owner.pid), true);
      await peer.must(give());
      await peer.must(give('share'));
      await rival.must(take());
      owner.process.kill('SIGKILL');
      scene.member.signal('SIGSTOP');
      await other.ended;
    });

    it('are killed by the guard when no other daemon comes', async () => {
      const scene = await EtcdScene.open({ seconds: 3 });
      const daemon = await scene.daemon();
      const [owner, other] = [scene.owner(), scene.owner()];
      await (await scene.join(daemon, owner.pid)).must(take());
      await (await scene.join(daemon, other.pid)).must(lock.createLockspace('/var/lib/libvirt/lockd/files'));
      process.kill(daemon.pid, 'SIGKILL');
      await owner.ended;
      assert.equal(isAlive(other.pid), true);
    });

    it('are killed by the guard when the daemon is stopped', async () => {
      const scene = await EtcdScene.open({ seconds: 3 });
      const daemon = await scene.daemon();
      const owner = scene.owner();
      const peer = await scene.join(daemon, owner.pid);
      await peer.must(take());
      process.kill(daemon.pid, 'SIGSTOP');
      await owner.ended;
      process.kill(daemon.pid, 'SIGCONT');
      await eventually('it notices', () => /has ended .*killing|The guard has killed 1 owners/.test(daemon.log));
      const next = await scene.join(daemon);
      await eventually('a lock is granted', async () => (await next.ask(take())) === undefined);
    });
  });
});

/** The names of the daemon's children. */
function children({ pid }: LockDaemon): string[] {
  return childrenOf(pid).map(nameOf);
}
