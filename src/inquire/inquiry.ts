/**
 * The state of the inquire program: counters, the last refusals, subscriptions and unfinished lists. Holds are read from the
 * lockspaces at each request, so that acquire and release pay for a counter only.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { ChangeType, type RefusalInfo, type RefusedRestart } from '../../xdr/programs/inquire.ts';
import { logger, logging } from '../log/log.ts';
import type { LockObserver, Lockspaces, Refusal, Resource } from '../lockspace/lockspaces.ts';
import type { Hold } from '../lockspace/owner.ts';
import type { Connection } from '../rpc/connection.ts';
import { Waiters, Waiting } from '../rpc/waiting.ts';
import type { InquireContext } from './host.ts';
import { describeLoss } from './lock-states.ts';
import { describeChange } from './locks.ts';
import { isDescribed, lookForOwner } from './owners.ts';
import { Pages } from './pages.ts';
import { elsewhere, holderOf, type InTheWay, refusalText, Refusals } from './refusals.ts';
import type { InquiryState } from './state.ts';
import { type Subscriber, Subscriptions } from './subscriptions.ts';

const log = logger('locking.lock_daemon');

type Counters = Record<
  | 'acquired'
  | 'released'
  | 'refusedHeld'
  | 'refusedOtherwise'
  | 'connected'
  | 'disconnected'
  | 'restartsRefused'
  | 'locksLost',
  number
>;

/** The reason for a refused re-execution is cut to so many bytes. */
const MAX_REASON = 800;

/** How long the report of a refusal waits for what the file says of its holder, in milliseconds. */
const LOOK_MS = 2000;

export class Inquiry implements LockObserver {
  readonly pages = new Pages();
  readonly subscriptions = new Subscriptions();
  private readonly ownRefusals = new Refusals();
  private readonly ownCounters: Counters = {
    acquired: 0,
    released: 0,
    refusedHeld: 0,
    refusedOtherwise: 0,
    connected: 0,
    disconnected: 0,
    restartsRefused: 0,
    locksLost: 0,
  };
  /** The state of the previous program, until it is first needed. */
  private left: InquiryState | undefined;
  private lastRefusedRestart: RefusedRestart | null = null;
  /** Reports of refusals whose holder is being described. */
  private readonly unreported = new Set<() => void>();
  private describing: Waiters | undefined;

  /** Takes over the state of the previous program. */
  restore(left: InquiryState): void {
    this.left = left;
  }

  get state(): InquiryState {
    const { refusals } = this;
    return { counters: { ...this.ownCounters }, refused: refusals.total, refusals: refusals.text };
  }

  get refusals(): Refusals {
    this.recall();
    return this.ownRefusals;
  }

  get counters(): Readonly<Counters> {
    this.recall();
    return this.ownCounters;
  }

  /** The last refused re-execution since this program was executed. */
  get refusedRestart(): RefusedRestart | null {
    return this.lastRefusedRestart;
  }

  restartRefused(reason: ByteString): void {
    this.ownCounters.restartsRefused++;
    this.lastRefusedRestart = { time: Date.now(), reason: reason.slice(0, MAX_REASON) };
  }

  private recall(): void {
    const { left } = this;
    if (left === undefined) return;
    this.left = undefined;
    for (const name of Object.keys(this.ownCounters) as (keyof Counters)[]) {
      this.ownCounters[name] += left.counters[name] ?? 0;
    }
    this.ownRefusals.precede(left.refused, left.refusals);
  }

  /** Clients disconnected and locks released so far. */
  get gone(): number {
    return this.counters.disconnected + this.counters.released;
  }

  /** Observes changes from now on. @param resumed the clients that a restart has carried over */
  watch(lockspaces: Lockspaces, resumed: readonly Subscriber[]): void {
    lockspaces.observe(this);
    this.subscriptions.resume(
      resumed.filter(({ subscribed }) => subscribed),
      Date.now(),
    );
  }

  acquired(resource: Resource, hold: Hold): void {
    this.ownCounters.acquired++;
    if (this.subscriptions.count > 0) this.publishHold(ChangeType.ACQUIRED, resource, hold);
  }

  released(resource: Resource, hold: Hold): void {
    this.ownCounters.released++;
    if (this.subscriptions.count > 0) this.publishHold(ChangeType.RELEASED, resource, hold);
  }

  lockChanged(resource: Resource, isNew: boolean): void {
    const { loss } = resource.file;
    if (isNew) this.ownCounters.locksLost++;
    if (loss !== null) this.subscriptions.publish(() => describeLoss(resource, loss), resource.path.length);
  }

  refused(refusal: Refusal): void {
    const inTheWay = holderOf(refusal);
    const info = this.refusals.add(refusal, Date.now(), inTheWay);
    if (info.holder === null) this.ownCounters.refusedOtherwise++;
    else this.ownCounters.refusedHeld++;
    if (inTheWay === null || (refusal.look === null && isDescribed(inTheWay.owner))) {
      this.report(info);
      return;
    }
    // The client is answered now. What is to be found out may keep the reader waiting for as long as storage hangs.
    const { caller } = logging;
    let latest = info;
    const report = (): void => {
      clearTimeout(timer);
      if (!this.unreported.delete(report)) return;
      logging.caller = caller;
      this.report(latest);
      logging.caller = null;
    };
    const timer = refusal.look === null ? undefined : setTimeout(report, LOOK_MS).unref();
    this.unreported.add(report);
    const { refusals } = this;
    const describe = (by: InTheWay): void => {
      latest = refusals.describeHolder(info, by);
      report();
    };
    const lookHere = (): void => {
      lookForOwner(inTheWay.owner, () => {
        describe(inTheWay);
      });
    };
    if (refusal.look === null) lookHere();
    else
      refusal.look(({ notes, isHere }) => {
        refusals.addNotes(info, notes);
        if (isHere) lookHere();
        // Otherwise the process that is named has its number on another host.
        else describe(elsewhere());
      });
  }

  /** Reports everything as it is known now, before a re-execution. */
  flush(): void {
    for (const report of [...this.unreported]) report();
    this.subscriptions.flush();
  }

  private report(info: RefusalInfo): void {
    log.warn(() => refusalText(info, this.refusals.notesOf(info)));
    this.subscriptions.publish(() => ({ type: ChangeType.REFUSED, value: info }), info.name.length + info.path.length);
  }

  /**
   * Reads the command lines of owners that have not registered with this daemon, but with a C daemon before it.
   *
   * @throws Waiting until that is done
   */
  awaitDescriptions(lockspaces: Lockspaces): void {
    if (this.describing === undefined) {
      const owners = lockspaces.takeUnregistered().filter((owner) => !isDescribed(owner));
      if (owners.length === 0) return;
      const descriptions = owners.map(async (owner) => {
        await new Promise<void>((done) => {
          lookForOwner(owner, done);
        });
      });
      const waiters = (this.describing = new Waiters());
      void Promise.all(descriptions).then(() => {
        this.describing = undefined;
        waiters.wake();
      });
    }
    const { describing } = this;
    throw new Waiting((done) => describing.wait(done));
  }

  clientOpened(connection: Connection): void {
    this.ownCounters.connected++;
    this.publishClient(ChangeType.CONNECTED, connection);
  }

  clientClosed(connection: Connection): void {
    this.ownCounters.disconnected++;
    this.publishClient(ChangeType.DISCONNECTED, connection);
  }

  /** A client has disconnected. */
  forget(client: InquireContext): void {
    this.pages.forget(client.connection);
    this.subscriptions.remove(client);
  }

  private publishHold(
    type: typeof ChangeType.ACQUIRED | typeof ChangeType.RELEASED,
    resource: Resource,
    hold: Hold,
  ): void {
    const size = resource.name.length + resource.path.length + hold.owner.name.length;
    this.subscriptions.publish(
      () => ({ type, value: { time: Date.now(), lock: describeChange(resource, hold) } }),
      size,
    );
  }

  private publishClient(
    type: typeof ChangeType.CONNECTED | typeof ChangeType.DISCONNECTED,
    { id, peer }: Connection,
  ): void {
    this.subscriptions.publish(() => ({ type, value: { time: Date.now(), client: id, pid: peer.pid >>> 0 } }), 0);
  }
}
