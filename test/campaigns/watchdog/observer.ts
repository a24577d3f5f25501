/** Watches the machine from outside: its resets, as QEMU reports them, and what etcd has of its locks at that moment. */
import type { EtcdMember } from '../../../src/lab/etcd.ts';
import { eventually } from '../../../src/lab/process.ts';
import { Qmp } from '../../support/qmp.ts';
import type { Fact, Reset } from './facts.ts';
import { type Scene, SPACE } from './plan.ts';

/** How long QEMU may take to listen: its image may have to be made first. */
const START_MS = 300_000;

export class Observer {
  readonly resets: Reset[] = [];
  private readonly etcd: EtcdMember;
  private readonly onReset: (reset: Reset) => void;
  private readonly over = new AbortController();
  private readonly followed: Promise<unknown>;
  private scene: Scene | undefined;
  private armed: number | undefined;
  /** QEMU reports the watchdog, and the reset that it makes of it afterwards. */
  private isReported = false;

  constructor(etcd: EtcdMember, monitor: string, onReset: (reset: Reset) => void) {
    this.etcd = etcd;
    this.onReset = onReset;
    this.followed = this.follow(monitor).catch(() => undefined);
  }

  onFact(fact: Fact): void {
    if (fact.is === 'booted') {
      this.isReported = false;
      this.armed = undefined;
      this.scene = undefined;
    } else if (fact.is === 'begun') this.scene = fact.scene;
    else if (fact.is === 'armed') this.armed = performance.now();
    else if (fact.is === 'done') this.isReported = true;
  }

  async end(): Promise<void> {
    this.over.abort();
    await this.followed;
  }

  private async follow(path: string): Promise<void> {
    const monitor = await eventually('QEMU listens', async () => Qmp.connect(path), START_MS);
    await monitor.followRuns(this.over.signal, (event) => {
      if (event !== 'WATCHDOG' && event !== 'RESET') return;
      if (this.isReported) return;
      this.isReported = true;
      const { scene, armed } = this;
      const seconds = armed === undefined ? undefined : (performance.now() - armed) / 1000;
      const left = scene === undefined ? undefined : this.leaseLeft(scene);
      const reset = { scene, byWatchdog: event === 'WATCHDOG', seconds, left };
      this.resets.push(reset);
      this.onReset(reset);
    });
  }

  /** The seconds that etcd gives the lease of the scene's lock; undefined: it has no such lock. */
  private leaseLeft(scene: Scene): number | undefined {
    const key = `/virtlockd/locks${SPACE}/${scene}`;
    const { output: found } = this.etcd.ctl('get', '--prefix', key, '--write-out=json');
    // Its number may be too large for a number of JavaScript.
    const [, lease] = /"lease":([0-9]+)/.exec(found) ?? [];
    if (lease === undefined) return undefined;
    const { output } = this.etcd.ctl('lease', 'timetolive', BigInt(lease).toString(16), '--write-out=json');
    return (JSON.parse(output) as { ttl: number }).ttl;
  }
}
