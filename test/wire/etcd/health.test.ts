/** Whether a host with locks in etcd is safe, as health, check, status, the metrics and the page say. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { eventually, type Finished } from '../../../src/lab/process.ts';
import { missingDaemon, missingEtcd } from '../../../src/lab/requirements.ts';
import type { LockDaemon } from '../../../src/lab/start.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { autocreate, lock, shared } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { EtcdScene, type Owner, SPACE } from './scene.ts';

interface Finding {
  readonly severity: string;
  readonly kind: string;
  readonly items: readonly { readonly text: string }[];
}

describe('health of a host with locks in etcd', function () {
  this.timeout(60_000);
  let scene: EtcdScene;
  let daemon: LockDaemon;
  let owner: Owner;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingEtcd());
  });

  afterEach(async () => {
    await EtcdScene.closeAll();
  });

  /** A host whose owner holds two locks. */
  async function begin(seconds: number, configuration = ''): Promise<void> {
    scene = await EtcdScene.open({ seconds, configuration });
    daemon = await scene.daemon();
    owner = scene.owner();
    const peer = await scene.join(daemon, owner.pid, 'db');
    await peer.must(lock.acquire(SPACE, 'disk', autocreate));
    await peer.must(lock.acquire(SPACE, 'share', autocreate | shared));
  }

  const lockctl = async (...args: readonly string[]): Promise<Finished> =>
    daemon.lab.run(join(checkout, 'bin/virt-lockctl'), args);

  /** Kinds of findings that count. */
  async function findings(): Promise<Map<string, readonly string[]>> {
    const { findings: found } = JSON.parse((await lockctl('health', '--json')).stdout) as { findings: Finding[] };
    return new Map(found.map(({ severity, kind, items }) => [`${severity} ${kind}`, items.map(({ text }) => text)]));
  }

  it('is well with a lease that is kept alive, where the operator knows of no watchdog', async () => {
    await begin(30, 'etcd_watchdog = "none"');
    const { code, stdout } = await lockctl('health');
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^OK: 0 guests, 2 locks, of which the kernel does not list 2\./);
    assert.deepEqual((await findings()).get('info unlisted-locks'), [
      '2 locks in etcd, which has the only record of them',
    ]);
    const check = await lockctl('check');
    assert.equal(check.code, 0, check.stdout);
    assert.match(
      check.stdout,
      /OK: 2 locks, .* etcd has the only record; of 2 on storage that hosts may share, its server confirms 2/,
    );
    assert.match((await lockctl('list')).stdout, /in etcd/);
    assert.match((await lockctl('lockspace', 'list')).stdout, new RegExp(`2 +in etcd +${SPACE}`));
    assert.match(
      (await lockctl('status')).stdout,
      /etcd +2 locks, lease kept alive .*, 1 owner would be killed in [0-9.]+ s, no watchdog\n/,
    );
    const metrics = (await lockctl('metrics')).stdout;
    assert.match(metrics, /^virtlockd_etcd_owners 1$/m);
    assert.match(metrics, /^virtlockd_etcd_owners_killed_total 0$/m);
    assert.match(metrics, /^virtlockd_etcd_watchdog 0$/m);
    assert.match(metrics, /^virtlockd_verdict 0$/m);
    const server = daemon.lab.spawn(join(checkout, 'bin/virt-lockctl'), ['serve']);
    try {
      const [address = ''] = await eventually(
        'the page is served',
        () => /^http:\S+/m.exec(server.output) ?? undefined,
      );
      const cells = await eventually('it has the state', async () => {
        const { status } = (await (await fetch(new URL('state', address))).json()) as { status: [string, string][] };
        return status.length > 0 && new Map(status);
      });
      assert.match(cells.get('etcd') ?? '', /^2 locks, lease kept alive .*, 1 owner would be killed in /);
    } finally {
      await server.stop();
    }
  });

  it('warns of a host without a watchdog, and of an etcd that does not answer while no lock is held there', async () => {
    scene = await EtcdScene.open({ seconds: 12 });
    daemon = await scene.daemon();
    assert.deepEqual((await findings()).get('warning etcd-no-watchdog'), ['none is configured']);
    await scene.member.kill();
    await eventually('it is noticed', () => daemon.log.includes('The lease of this host is not kept alive'), 20_000);
    const found = await findings();
    assert.match(
      found.get('warning etcd-silent')?.join() ?? '',
      /^The lease of this host is not kept alive: .*; the lease ends in [0-9.]+ s, and no lock is held there$/,
    );
    assert.ok(!found.has('error etcd-lease'));
  });

  it('is an error when the lease is about to end, with who would be killed; then it has been', async () => {
    await begin(12);
    scene.member.signal('SIGSTOP');
    await eventually('half of the time is over', () => daemon.log.includes('has not answered a keepalive for'), 20_000);
    const found = (await findings()).get('error etcd-lease') ?? [];
    assert.match(
      found[0] ?? '',
      /^etcd has not answered a keepalive for [0-9.]+ s, and owners are killed in [0-9.]+ s/,
    );
    assert.equal(found[1], `db (pid ${owner.pid}) with 2 locks would be killed`);
    await owner.ended;
    await eventually('it is counted', async () =>
      /^virtlockd_etcd_owners_killed_total 1$/m.test((await lockctl('metrics')).stdout),
    );
    await eventually('it has no lease', async () => (await findings()).has('warning etcd-silent'));
    scene.member.signal('SIGCONT');
    await eventually('it has another one', async () => !(await findings()).has('warning etcd-silent'));
  });

  it('finds a lock whose key is gone from etcd', async () => {
    await begin(30);
    assert.equal(scene.member.ctl('del', '--prefix', `/virtlockd/locks${SPACE}/disk//`).status, 0);
    await eventually('an audit finds it', async () => (await findings()).has('error lost-lock'), 30_000);
    assert.match(
      (await lockctl('check')).stdout,
      /disk: it is lost, and nobody else is known to have it, last confirmed/,
    );
    assert.match((await lockctl('metrics')).stdout, /^virtlockd_lost_locks 1$/m);
  });
});
