/**
 * Decides whether the daemon's state outlives the process. With a service manager that stores descriptors it does. Without one, locks end
 * with the process, as C's do. The environment may say which it is at the start. Else the manager is asked while the daemon serves.
 */
import type { Daemon } from '../daemon/daemon.ts';
import type { FileKeeper } from '../lockspace/file-keeper.ts';
import type { HeldFile } from '../lockspace/files.ts';
import { logger } from '../log/log.ts';
import type { SurvivalView } from '../inquire/host.ts';
import { isLocalFile } from '../lockspace/local-files.ts';
import { lastStat, posix, type Stat, strerror } from '../posix/posix.ts';
import { askStore, ownUnit, type StoreStatus } from '../store/manager.ts';
import { StateRecord } from '../store/record.ts';
import { DescriptorStore } from '../store/store.ts';
import type { ByteString } from '../../xdr/codec.ts';
import { adoptStrays, conclude, type Death } from './death.ts';
import type { RecorderState } from './entries.ts';
import { Recorder } from './recorder.ts';

const log = logger('locking.lock_daemon');

/** From a store to the comparison of the manager's count with ours, in milliseconds: doubled while they are equal. */
const COMPARE_MS = 1000;
const MAX_COMPARE_MS = 600_000;
/** Until the manager is asked again whether it has a store, in milliseconds: doubled every time. */
const LOOK_AGAIN_MS = 60_000;
const MAX_LOOK_AGAIN_MS = 3_600_000;
/** How long emptying the store may take, and the time between two queries of its count, in milliseconds. */
const EMPTY_MS = 5000;
const EMPTY_CHECK_MS = 50;
/** How long the manager is waited for before what it has not got is lost, in milliseconds. systemd kills who takes 90 s to end. */
const SETTLE_MS = 20_000;

interface SurvivalOptions {
  /** $NOTIFY_SOCKET. */
  readonly socket: ByteString;
  /** $FDSTORE, of systemd 254 and later: the limit of stored descriptors. */
  readonly promised: string | undefined;
  readonly identity: RecorderState;
  /** Queries the manager; a test's own. */
  ask?(): Promise<StoreStatus | null>;
}

/** The daemon, and callbacks into the program. */
interface Survivor {
  readonly daemon: Daemon;
  /** No child may be spawned at present. */
  isBusy(): boolean;
  /** There is a store, or a larger one: held POSIX locks can become OFD locks. */
  onStore(): void;
  /** A lock was granted that would not outlive the process. */
  onMortal(): void;
}

export class Survival implements FileKeeper {
  private readonly options: SurvivalOptions;
  private survivor: Survivor | undefined;
  private recorder: Recorder | null = null;
  private store: DescriptorStore | null = null;
  private hasStore: boolean | undefined;
  private limit = 0;
  private shortfall = 0;
  /** The one for which all was sent again. */
  private lastShortfall = 0;
  /** How many the manager had when there was one. */
  private lastCount = 0;
  /** Names from here on were given to nothing yet. */
  private serial = 0;
  private isEmptied = false;
  /** The limit of a store that was found while it must stay empty. */
  private foundLimit = 0;
  private isShortReported = false;
  private compareDelay = COMPARE_MS;
  private lookDelay = LOOK_AGAIN_MS;
  private timer: NodeJS.Timeout | undefined;
  /** When this process took over from a daemon that died, in milliseconds of CLOCK_MONOTONIC; undefined once the gap is reported. */
  private tookOver: number | undefined;

  constructor(options: SurvivalOptions) {
    this.options = options;
  }

  /** Call this first. It is no argument of the constructor because the daemon is made with this object. */
  attach(survivor: Survivor): void {
    this.survivor = survivor;
  }

  private get daemon(): Daemon {
    if (this.survivor === undefined) throw new Error('whose survival?');
    return this.survivor.daemon;
  }

  // ---- beginnings

  /** Goes on with the restored state of a daemon that died. */
  takeOver(death: Death): void {
    const { record, stored, strays } = death;
    const words = new Uint32Array(record.slots);
    const store = new DescriptorStore(this.options.socket, words);
    for (const [name, fd] of stored) if (!strays.has(name)) store.adopt(fd, name);
    const recorder = this.start(store, record, this.promisedLimit());
    recorder.begin(true);
    recorder.countMortal();
    conclude(this.daemon, death, recorder, store);
    recorder.replaceBank(words);
    recorder.mark();
    adoptStrays(this.daemon, death, store);
    this.tookOver = monotonicNow();
    this.learn();
  }

  /** Goes on with the record of the previous program image of this process. */
  goOn(fd: number): void {
    try {
      const record = StateRecord.open(fd, this.options.identity.process.boot);
      const store = new DescriptorStore(this.options.socket, record.bank.names);
      const recorder = this.start(store, record, this.promisedLimit());
      recorder.begin(true);
      recorder.mark();
      this.learn();
    } catch (error) {
      log.error(`The state record is lost, and will be begun again: ${(error as Error).message}`);
      this.look();
    }
  }

  /** All locks of the previous program image are adopted. */
  takeoverFinished(): void {
    this.recorder?.countMortal();
  }

  /** Finds out whether there is a store, by the environment or by a query. */
  look(): void {
    if (this.promisedLimit() > 0) this.begin(this.promisedLimit());
    else this.learn();
  }

  /** Removes from the store the descriptors of a daemon whose record cannot be used. */
  discard(stored: Death['stored']): void {
    const store = new DescriptorStore(this.options.socket, new Uint32Array(0));
    for (const name of stored.keys()) store.remove(name);
  }

  private promisedLimit(): number {
    const { promised = '' } = this.options;
    return /^\d{1,9}$/.test(promised) ? Number(promised) : 0;
  }

  /** Begins to record and store; nothing is in the store yet. */
  private begin(limit: number): void {
    // What were stored now, a program would leave there that knows nothing of it.
    this.foundLimit = this.isEmptied ? limit : 0;
    if (this.isEmptied) return;
    const made = StateRecord.create({ boot: this.options.identity.process.boot });
    if (typeof made === 'number') {
      log.error(`There is no memory for the state record: ${strerror(made)}`);
      this.lookAgain();
      return;
    }
    const store = new DescriptorStore(this.options.socket, made.bank.names);
    store.nextSerial = this.serial;
    const recorder = this.start(store, made, limit);
    recorder.begin(false);
    recorder.mark();
    this.compareSoon();
    this.survivor?.onStore();
  }

  private start(store: DescriptorStore, record: StateRecord, limit: number): Recorder {
    const onFailure = (): void => {
      // Duplicates would keep the peers of closed connections from an end of file.
      store.empty();
      this.recorder = null;
      this.shortfall = this.lastShortfall = 0;
      this.serial = store.nextSerial;
      this.store = null;
      this.lookAgain();
    };
    this.hasStore = true;
    this.limit = limit;
    this.store = store;
    store.onStored = () => {
      this.compareDelay = COMPARE_MS;
      this.compareSoon();
    };
    const { identity } = this.options;
    const room = limit > 0 ? limit : Infinity;
    return (this.recorder = new Recorder(this.daemon, store, record, identity, room, onFailure));
  }

  private lookAgain(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.look();
    }, this.lookDelay).unref();
    this.lookDelay = Math.min(this.lookDelay * 2, MAX_LOOK_AGAIN_MS);
  }

  // ---- the manager's answers

  private compareSoon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.learn();
    }, this.compareDelay).unref();
  }

  /** Queries the manager, while the daemon serves. */
  private learn(): void {
    if (this.survivor?.isBusy() === true) {
      this.compareSoon();
      return;
    }
    const changes = this.store?.changes;
    void this.ask().then((answer) => {
      if (answer !== null) this.reportGap(answer);
      if (this.store === null) this.decide(answer);
      else this.compare(answer, changes === this.store.changes);
    });
  }

  private reportGap({ ended }: StoreStatus): void {
    if (this.tookOver !== undefined && ended > 0 && ended < this.tookOver)
      log.warn(`No client was served for ${Math.round(this.tookOver - ended)} ms after the former daemon's end`);
    this.tookOver = undefined;
  }

  private decide(answer: StoreStatus | null): void {
    this.hasStore = answer === null ? undefined : answer.max > 0;
    if (answer !== null && answer.max > 0) this.begin(answer.max);
    else this.lookAgain();
  }

  /** @param isCurrent nothing was stored or removed since the query */
  private compare(answer: StoreStatus | null, isCurrent: boolean): void {
    const { store, recorder } = this;
    if (store === null || recorder === null) return;
    if (answer !== null) {
      const hasGrown = answer.max > recorder.limit;
      // What did not fit before may fit now.
      if (answer.max > this.limit) this.lastShortfall = 0;
      this.limit = answer.max;
      recorder.limit = answer.max;
      if (hasGrown) this.survivor?.onStore();
    }
    if (answer !== null && isCurrent) this.mend(store, answer);
    this.compareDelay = this.shortfall > 0 ? COMPARE_MS : Math.min(this.compareDelay * 2, MAX_COMPARE_MS);
    this.compareSoon();
  }

  private mend(store: DescriptorStore, { max, count }: StoreStatus): void {
    const before = this.lastShortfall;
    this.lastShortfall = this.shortfall = Math.max(0, store.count - store.unsentCount - count);
    if (this.shortfall === 0) {
      if (this.isShortReported) log.info('The service manager keeps all descriptors again');
      this.isShortReported = false;
      return;
    }
    if (!this.isShortReported)
      log.warn(
        `Of ${store.count} descriptors the service manager keeps ${count}, with a limit of ${max}: the others are sent again`,
      );
    this.isShortReported = true;
    const hasRoom = count < max && count !== this.lastCount;
    this.lastCount = count;
    // Only when something has changed: a second attempt would find the store as full as the first.
    if (this.shortfall !== before || hasRoom) store.storeAgain();
  }

  private async ask(): Promise<StoreStatus | null> {
    return this.options.ask === undefined ? askStore(ownUnit()) : this.options.ask();
  }

  // ---- for others

  /** The record's descriptor for the next program image; undefined once the store is emptied, for a program that knows no record. */
  get record(): number | undefined {
    return this.isEmptied ? undefined : this.recorder?.descriptor;
  }

  get isActive(): boolean {
    return this.recorder !== null;
  }

  /** Every held lock would outlive the process. Makes no system call. */
  get everyLockWouldOutlive(): boolean {
    const { recorder, store } = this;
    return (
      recorder !== null &&
      store !== null &&
      recorder.mortalFiles.size === 0 &&
      store.unsentCount === 0 &&
      this.shortfall === 0
    );
  }

  get status(): SurvivalView {
    const { hasStore, limit, store, recorder, shortfall } = this;
    let mortalLocal = 0;
    for (const { fd } of recorder?.mortalFiles ?? []) {
      if (posix.fstatInode(fd) === 0 && isLocalFile(fd, lastStat())) mortalLocal++;
    }
    return {
      hasStore: recorder === null && hasStore === true ? false : hasStore,
      limit,
      stored: store?.count ?? 0,
      missing: shortfall + (store?.unsentCount ?? 0),
      mortalLocal,
      mortalRemote: (recorder?.mortalFiles.size ?? 0) - mortalLocal,
      memory: recorder?.memory ?? 0,
    };
  }

  /** Removes all descriptors from the store, because the daemon ends or its successor knows no store. Does not wait for the manager. */
  empty(): void {
    this.isEmptied = true;
    this.recorder?.suspend();
    this.store?.empty();
  }

  /** As {@link empty}, and waits until the manager has removed them. Returns a reason if it has not. */
  async emptyForOther(): Promise<string | undefined> {
    this.empty();
    if (this.store === null) return undefined;
    const until = performance.now() + EMPTY_MS;
    for (;;) {
      const isSent = this.store.flush();
      // The manager's count is stale until it has processed all messages: query it until it is 0.
      const answer = isSent ? await this.ask() : null;
      if (answer !== null && answer.count === 0) return undefined;
      if (performance.now() > until) return 'the service manager has not removed all descriptors from its store';
      await new Promise((resolve) => setTimeout(resolve, EMPTY_CHECK_MS));
    }
  }

  /** Waits, for a limited time, until the manager has been sent all that it is to keep: the daemon leaves it to the next process. */
  async settle(milliseconds = SETTLE_MS): Promise<void> {
    const until = performance.now() + milliseconds;
    while (this.store?.flush() === false && performance.now() < until)
      await new Promise((resolve) => setTimeout(resolve, EMPTY_CHECK_MS));
  }

  /** Stores all descriptors again, because the daemon goes on. */
  refill(): void {
    this.isEmptied = false;
    this.store?.storeAgain();
    this.recorder?.resume();
    if (this.foundLimit > 0) this.begin(this.foundLimit);
  }

  // ---- files

  get isKeeping(): boolean {
    return this.recorder?.isKeeping ?? false;
  }

  keeps(fd: number, stat: Stat): boolean {
    return this.recorder?.keeps(fd, stat) ?? false;
  }

  locked(file: HeldFile): void {
    this.recorder?.locked(file);
    if (file.lockKind === 'posix') this.survivor?.onMortal();
  }

  kindChanged(file: HeldFile): void {
    this.recorder?.kindChanged(file);
  }

  releasing(): void {
    this.recorder?.releasing();
  }

  unlocked(file: HeldFile): void {
    this.recorder?.unlocked(file);
  }

  gone(file: HeldFile): void {
    this.recorder?.gone(file);
  }
}

/** CLOCK_MONOTONIC, which systemd's timestamps use. */
function monotonicNow(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
