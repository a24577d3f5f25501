/**
 * What follows when an owner's own connection ends: everything it holds is released and, if it held anything, the
 * process is killed, for it must not go on writing to disks that another guest may lock now.
 *
 * An owner may hold very much. Its resources are released in slices, so that nobody else waits longer than one of them.
 */
import { logger } from '../daemon/log/log.ts';
import type { Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import type { LockClient } from './client.ts';
import { type KillerHost, type Killing, killPainfully } from './killer.ts';

const log = logger('locking.lock_daemon');

/** How long a slice takes, in milliseconds. */
const SLICE_MS = 5;

interface Ending {
  readonly pid: number;
  readonly left: Iterator<Resource>;
}

export class OwnerEnds {
  private readonly lockspaces: Lockspaces;
  private readonly host: KillerHost;
  private readonly endings: Ending[] = [];
  private scheduled = false;
  private readonly killings = new Set<Killing>();
  private idle: (() => void)[] = [];

  constructor(lockspaces: Lockspaces, host: KillerHost) {
    this.lockspaces = lockspaces;
    this.host = host;
  }

  /** How many owners are being killed. */
  get beingKilled(): number {
    return this.killings.size;
  }

  /** Who is being killed: what a successor goes on with. */
  get unfinished(): readonly Killing[] {
    return [...this.killings];
  }

  /** The connection of `client` is gone. */
  clientClosed(client: LockClient): void {
    const { owner } = client;
    // libvirtd calls for owners that are not itself: when it hangs up, their locks stay.
    if (owner === null || !client.isOwnerItself) return;
    const held = this.lockspaces.heldBy(owner.pid);
    if (held.size === 0) return;
    log.info(`Owner ${owner.pid} (${owner.name}) is gone with ${held.size} locks held`);
    this.end(owner.pid);
  }

  /** Kills the owner and releases all it holds at present, a slice at once and the rest in slices to follow. */
  end(pid: number): void {
    this.kill(pid);
    // A copy: what is acquired for this pid later belongs to somebody who knows what they do.
    this.endings.push({ pid, left: [...this.lockspaces.heldBy(pid)].values() });
    if (this.endings.length === 1) this.slice();
  }

  kill(pid: number): void {
    this.goOnKilling({ pid, born: this.host.startTime(pid), looks: 0 });
  }

  /** Goes on with what was begun before a re-execution. */
  goOnKilling(killing: Killing): void {
    this.killings.add(killing);
    killPainfully(killing, this.host, () => {
      this.killings.delete(killing);
      this.notifyIdle();
    });
  }

  /** Releases at once all that slices were left for: before the state is written or the daemon ends. */
  finish(): void {
    while (this.endings.length > 0) this.slice(Infinity);
  }

  /** Resolves when nobody is being killed any more. */
  async settled(): Promise<void> {
    if (this.killings.size > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
  }

  private slice(budget = SLICE_MS): void {
    const until = performance.now() + budget;
    for (;;) {
      const [ending] = this.endings;
      if (ending === undefined) return;
      const next = ending.left.next();
      if (next.done === true) {
        this.endings.shift();
        continue;
      }
      this.lockspaces.releaseOwner(next.value, ending.pid);
      // At every one: on a disk with a busy journal a single release may take milliseconds.
      if (performance.now() >= until) break;
    }
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.slice();
    });
  }

  private notifyIdle(): void {
    if (this.killings.size > 0) return;
    for (const resolve of this.idle.splice(0)) resolve();
  }
}
