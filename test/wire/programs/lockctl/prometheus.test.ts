/**
 * A real Prometheus scrapes `virt-lockctl serve` through the life of a real daemon: the alert rules work, and each expression of the
 * dashboard has a value.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { eventually } from '../../../../src/lab/process.ts';
import { type LockDaemon, reexecute, startDaemon } from '../../../../src/lab/start.ts';
import { lock } from '../../../../src/lab/wire.ts';
import { missingPrometheus, monitoring, Prometheus } from '../../../support/prometheus.ts';
import { skipIf } from '../../../support/skip.ts';

/** What a daemon without systemd, without a limit of descriptors or without lockspaces in etcd has no value of. */
const VALUELESS = /virtlockd_(stored_fds|max_fds|etcd_)/;
/** They count guests of other tests on this machine, too. */
const ABOUT_THE_HOST = new Set(['VirtlockdUnsafe', 'VirtlockdFinding']);

interface Panel {
  readonly title: string;
  readonly targets: readonly { readonly expr: string }[];
}

describe('Prometheus', function () {
  this.timeout(120_000);
  let daemon: LockDaemon;
  let prometheus: Prometheus;

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingPrometheus());
    daemon = await startDaemon('ours');
    prometheus = await Prometheus.start(daemon.lab);
  });

  after(async () => {
    await (prometheus as Prometheus | undefined)?.stop();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  it('evaluates every rule, and none fires for a daemon that is well', async () => {
    const found = await eventually('the rules are evaluated', async () => {
      const all = await prometheus.rules();
      return all.length > 0 && all.every(({ health }) => health !== 'unknown') ? all : undefined;
    });
    assert.deepEqual(
      found.filter(({ name, health, state }) => health !== 'ok' || (state !== 'inactive' && !ABOUT_THE_HOST.has(name))),
      [],
    );
  });

  it('has a value for each expression of the dashboard', async () => {
    const holder = await daemon.connect();
    await holder.must(lock.register({ pid: 5_000_000, name: 'guest' }));
    const image = join(daemon.lab.directory, 'disk.img');
    writeFileSync(image, '');
    await holder.must(lock.acquire('', image));
    await prometheus.until('virtlockd_locks', '1');
    const dashboard = JSON.parse(readFileSync(join(monitoring, 'grafana-dashboard.json'), 'utf8')) as {
      panels: readonly Panel[];
    };
    for (const { title, targets } of dashboard.panels) {
      for (const { expr } of targets) {
        const query = expr.replaceAll('$instance', '.*').replaceAll('$__rate_interval', '1m');
        const { status, data } = await prometheus.ask('query', { query });
        assert.equal(status, 'success', `${title}: ${expr}`);
        if (!VALUELESS.test(expr)) assert.notEqual(data.result.length, 0, `${title}: ${expr}`);
      }
    }
    holder.close();
  });

  it('sees a refusal, a restart, and the death of the daemon', async () => {
    const image = join(daemon.lab.directory, 'disk.img');
    const holder = await daemon.connect();
    await holder.must(lock.register({ pid: 5_000_001, name: 'holder' }));
    await daemon.connect().then(async (late) => {
      await late.must(lock.register({ pid: 5_000_002, name: 'late' }));
      assert.equal((await late.ask(lock.acquire('', image)))?.code, 87);
      late.close();
    });
    await prometheus.until('virtlockd_refused_total{reason="held"}', '1');
    await reexecute(daemon);
    await prometheus.until('virtlockd_restarts_total', '1');
    assert.equal(await prometheus.value('changes(virtlockd_start_time_seconds[5m])'), '0');
    holder.close();
    daemon.process.kill('SIGKILL');
    await prometheus.until('virtlockd_up', '0');
    await prometheus.until('virtlockd_verdict', '2');
    await prometheus.until('virtlockd_findings{kind="daemon-down"}', '1');
    await prometheus.untilAlert('VirtlockdDown', true);
  });
});
