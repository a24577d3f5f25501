/** What operators see of locks in etcd, on any host, and how they free a dead one. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { indirectName } from '../../../src/lab/guest.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingEtcd } from '../../../src/lab/requirements.ts';
import { type LockDaemon, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { autocreate, lock, shared } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { EtcdScene, type Owner, SPACE } from './scene.ts';

const IMAGE = '/disks/db.img';
/** Its name in an indirect lockspace. */
const HASH = indirectName(IMAGE);

describe('virt-lockctl and locks in etcd', function () {
  this.timeout(60_000);
  let scene: EtcdScene;
  let one: LockDaemon;
  let two: LockDaemon;
  let owner: Owner;

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingEtcd());
    scene = await EtcdScene.open({ seconds: 6 });
    [one, two] = [await scene.daemon(), await scene.daemon()];
    owner = scene.owner();
    const here = await scene.join(one, owner.pid, 'db');
    await here.must(lock.acquire(SPACE, HASH, autocreate));
    await here.must(lock.acquire(SPACE, 'share', autocreate | shared));
    const there = await scene.join(two, undefined, 'web');
    await there.must(lock.acquire(SPACE, 'share', autocreate | shared));
  });

  after(async () => {
    await EtcdScene.closeAll();
  });

  interface Run {
    readonly code: number | null;
    readonly stdout: string;
    readonly stderr: string;
  }
  const lockctl = async (daemon: LockDaemon, ...args: readonly string[]): Promise<Run> =>
    daemon.lab.run(join(checkout, 'bin/virt-lockctl'), args);

  it('lists the locks of all hosts', async () => {
    for (const daemon of [one, two]) {
      const { code, stdout } = await lockctl(daemon, 'list', '--all-hosts', '--json');
      assert.equal(code, 0);
      const locks = JSON.parse(stdout) as {
        path: string;
        mode: string;
        revision: number;
        owners: { name: string }[];
      }[];
      const texts = locks.map(({ path, mode, owners }) => `${path} ${mode} ${owners.map(({ name }) => name).join()}`);
      assert.deepEqual(texts.sort(), [
        `${SPACE}/${HASH} exclusive db`,
        `${SPACE}/share shared db`,
        `${SPACE}/share shared web`,
      ]);
      assert.ok(locks.every(({ revision }) => revision > 0));
    }
    assert.match((await lockctl(two, 'list', '--all-hosts')).stdout, /HOST +VM +PID +MODE +SINCE +REVISION +PATH\n/);
    assert.equal((await lockctl(two, 'list', '--all-hosts', '--vm', 'db')).code, 2);
  });

  it('says who holds a lock on another host, with a fencing token', async () => {
    for (const daemon of [one, two]) {
      const { code, stdout } = await lockctl(daemon, 'who', `${SPACE}/${HASH}`);
      assert.equal(code, 0, stdout);
      assert.match(stdout, new RegExp(`db \\(pid ${owner.pid}\\) on host .* holds an exclusive lock in etcd as `));
      assert.match(stdout, /, revision [1-9][0-9]*, on lease [0-9a-f]+/);
    }
    const { code, stdout } = await lockctl(two, 'who', `${SPACE}/nobody`);
    assert.equal(code, 1, stdout);
  });

  it('says why a lock would be refused on another host, and when it would be granted', async () => {
    for (const [words, code, text] of [
      [
        [HASH, '--lockspace', SPACE, '--autocreate'],
        1,
        `refused: db \\(pid ${owner.pid}\\) on host .* an exclusive lock in etcd`,
      ],
      [[IMAGE], 1, `in lockspace ${SPACE}, which guards this disk: db \\(pid ${owner.pid}\\) on host `],
      [['share', '--lockspace', SPACE, '--shared'], 0, 'granted: shared with web'],
      [['free', '--lockspace', SPACE, '--autocreate'], 0, `granted: no lock on ${SPACE}/free in etcd is in the way\\.`],
      [['free', '--lockspace', SPACE], 0, 'is in the way, if the resource was created'],
    ] as const) {
      const { code: status, stdout, stderr } = await lockctl(two, 'why', ...words);
      assert.equal(status, code, stdout + stderr);
      assert.match(stdout, new RegExp(text));
    }
  });

  it('shows the lease in status and metrics', async () => {
    assert.match(
      (await lockctl(one, 'status')).stdout,
      /etcd +2 locks, lease kept alive [0-9.]+ s ago; without that, 1 owner would be killed in [0-9.]+ s, no watchdog\n/,
    );
    const { stdout } = await lockctl(one, 'metrics');
    assert.match(stdout, /^virtlockd_etcd_locks 2$/m);
    assert.match(stdout, /^virtlockd_etcd_lease_held 1$/m);
    assert.match(stdout, /^virtlockd_etcd_guarded 1$/m);
  });

  it('lists the hosts, and frees a dead one once an operator vouches for its death', async () => {
    const { stdout } = await lockctl(two, 'host', 'list', '--json');
    const hosts = JSON.parse(stdout) as { lease: string; locks: number; pid: number; isThis: boolean }[];
    assert.deepEqual(
      hosts.map(({ pid, locks, isThis }) => [pid, locks, isThis]).sort(),
      [
        [one.pid, 2, false],
        [two.pid, 1, true],
      ].sort(),
    );
    const dead = hosts.find(({ isThis }) => !isThis)?.lease ?? '';
    const own = hosts.find(({ isThis }) => isThis)?.lease ?? '';
    assert.match((await lockctl(two, 'host', 'fence', own, '--yes')).stderr, /that is this host/);
    assert.match((await lockctl(two, 'host', 'fence', 'nobody', '--yes')).stderr, /no host 'nobody' has a lease/);
    const asked = await lockctl(two, 'host', 'fence', dead);
    assert.equal(asked.code, 1);
    assert.match(asked.stdout, /has 2 locks .*\n.*db \(pid/s);
    assert.match(asked.stdout, /Nothing was done/);
    process.kill(one.pid, 'SIGSTOP');
    const done = await lockctl(two, 'host', 'fence', dead, '--yes');
    assert.equal(done.code, 0, done.stderr);
    const next = await scene.join(two);
    await next.must(lock.acquire(SPACE, HASH, autocreate));
    // The guard of a host that lives after all ends its owners.
    await owner.ended;
    process.kill(one.pid, 'SIGCONT');
  });

  it('lists very many hosts', async () => {
    const value = JSON.stringify({ host: 'many', hostUuid: null, pid: 7, seconds: 60, since: Date.now() });
    const { output } = scene.member.ctl('lease', 'grant', '600');
    const granted = /lease ([0-9a-f]+) granted/.exec(output)?.[1] ?? '';
    // Each has a lease of its own, but the name of the key says which.
    for (let index = 1; index <= 150; index++)
      assert.equal(
        scene.member.ctl('put', '--lease', granted, `/virtlockd/hosts/${index.toString(16)}`, value).status,
        0,
      );
    const { stdout } = await lockctl(two, 'host', 'list', '--json');
    const hosts = JSON.parse(stdout) as { host: string }[];
    assert.equal(hosts.filter(({ host }) => host === 'many').length, 150);
    assert.equal(scene.member.ctl('lease', 'revoke', granted).status, 0);
  });

  it('refuses a disk that very many hosts share, says so, and goes on', async () => {
    const [value = ''] = scene.member.keys(`/virtlockd/locks${SPACE}/share//s/`).values();
    const { output } = scene.member.ctl('lease', 'grant', '600');
    const granted = /lease ([0-9a-f]+) granted/.exec(output)?.[1] ?? '';
    for (let index = 1; index <= 12; index++) {
      const key = `/virtlockd/locks${SPACE}/crowd//s/${index.toString(16)}`;
      assert.equal(scene.member.ctl('put', '--lease', granted, key, value).status, 0);
    }
    const crowd = `${SPACE}/crowd`;
    const peer = await scene.join(two, undefined, 'late');
    assert.equal((await peer.ask(lock.acquire(SPACE, 'crowd', autocreate)))?.code, 87);
    assert.match((await lockctl(two, 'refusals')).stdout, /crowd/);
    for (const command of ['who', 'why']) {
      const { code, stdout, stderr } = await lockctl(two, command, crowd);
      assert.ok(code !== null && stdout.includes(crowd), `${command}: ${stdout}${stderr}`);
    }
    await reexecute(two);
    assert.match((await lockctl(two, 'refusals')).stdout, /crowd/);
    assert.equal((await peer.ask(lock.acquire(SPACE, 'crowd', autocreate)))?.code, 87);
    assert.equal(scene.member.ctl('lease', 'revoke', granted).status, 0);
    await peer.must(lock.acquire(SPACE, 'crowd', autocreate));
    await peer.must(lock.release(SPACE, 'crowd'));
    assert.doesNotMatch(two.log, /Going on after/);
  });

  it('says that etcd does not answer', async () => {
    scene.member.signal('SIGSTOP');
    await eventually('it is noticed', () => /is not kept alive|has not answered a keepalive/.test(two.log));
    const { code, stderr } = await lockctl(two, 'list', '--all-hosts');
    assert.equal(code, 1);
    assert.match(stderr, /etcd does not answer/);
    const { stdout } = await lockctl(two, 'status');
    assert.match(stdout, /warning: .*(?:the lease ends here in|has ended)/);
    scene.member.signal('SIGCONT');
  });

  it('says where no lockspace is kept in etcd', async () => {
    const daemon = await startDaemon('ours', {});
    try {
      for (const args of [
        ['list', '--all-hosts'],
        ['host', 'list'],
      ]) {
        const { code, stderr } = await lockctl(daemon, ...args);
        assert.equal(code, 1);
        assert.match(stderr, /keeps no lockspace in etcd: etcd_endpoints/);
      }
      assert.doesNotMatch((await lockctl(daemon, 'status')).stdout, /^etcd /m);
      assert.doesNotMatch((await lockctl(daemon, 'metrics')).stdout, /virtlockd_etcd/);
    } finally {
      await daemon.stop();
    }
  });
});
