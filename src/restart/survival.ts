/**
 * Whether what the daemon has would outlive its death: with a service manager that keeps descriptors it does, and without one locks are
 * as mortal as C's. Which of both it is may be known at the start, or after the manager has been asked, which nobody waits for.
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

/** Until the manager's count is compared with ours after something was stored, in milliseconds: doubled while they are equal. */
const COMPARE_MS = 1000;
const MAX_COMPARE_MS = 600_000;
/** Until a store is looked for again where there was none to be found, in milliseconds: doubled every time. */
const LOOK_AGAIN_MS = 60_000;
const MAX_LOOK_AGAIN_MS = 3_600_000;
/** How long emptying the store may take, in milliseconds; and until its count is asked for again. */
const EMPTY_MS = 5000;
const EMPTY_CHECK_MS = 50;
/** How long the manager is waited for before what it has not got is lost, in milliseconds. systemd kills who takes 90 s to end. */
const SETTLE_MS = 20_000;

export interface SurvivalOptions {
  /** Where the manager is told. */
  readonly socket: ByteString;
  /** $FDSTORE: how many descriptors there may be, of systemd 254 and later. */
  readonly promised: string | undefined;
  readonly identity: RecorderState;
  /** Asks the manager. */
  ask?(): Promise<StoreStatus | null>;
}

/** The daemon, and what only it knows. */
export interface Survivor {
  readonly daemon: Daemon;
  /** Nothing may be spawned at present. */
  isBusy(): boolean;
  /** A store has appeared: locks that are held already are to be changed. */
  onStore(): void;
  /** A lock has come that would not outlive the process. */
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
  /** How much room there is in a store that was found while nothing may be put in. */
  private foundLimit = 0;
  private isShortReported = false;
  private compareDelay = COMPARE_MS;
  private lookDelay = LOOK_AGAIN_MS;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: SurvivalOptions) {
    this.options = options;
  }

  /** To be called before anything else: the daemon is made with this one. */
  attach(survivor: Survivor): void {
    this.survivor = survivor;
  }

  private get daemon(): Daemon {
    if (this.survivor === undefined) throw new Error('whose survival?');
    return this.survivor.daemon;
  }

  // ---- beginnings

  /** Goes on with what a daemon has left that died. */
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
    this.learn();
  }

  /** Goes on with the record of the program before this one. */
  goOn(fd: number): void {
    try {
      const record = StateRecord.open(fd, this.options.identity.process.boot);
      const store = new DescriptorStore(this.options.socket, record.bank.names);
      const recorder = this.start(store, record, this.promisedLimit());
      recorder.begin(true);
      recorder.mark();
      this.learn();
    } catch (error) {
      log.error(`The record of who owns what is lost, and is begun again: ${(error as Error).message}`);
      this.look();
    }
  }

  /** All that was held before is adopted. */
  takeoverFinished(): void {
    this.recorder?.countMortal();
  }

  /** Finds out whether there is a store. */
  look(): void {
    if (this.promisedLimit() > 0) this.begin(this.promisedLimit());
    else this.learn();
  }

  /** Takes out of the store what a daemon has left there of which nothing can be made. */
  discard(stored: Death['stored']): void {
    const store = new DescriptorStore(this.options.socket, new Uint32Array(0));
    for (const name of stored.keys()) store.remove(name);
  }

  private promisedLimit(): number {
    const { promised = '' } = this.options;
    return /^\d{1,9}$/.test(promised) ? Number(promised) : 0;
  }

  /** There is a store, and nothing in it yet. */
  private begin(limit: number): void {
    // What were stored now, a program would leave there that knows nothing of it.
    this.foundLimit = this.isEmptied ? limit : 0;
    if (this.isEmptied) return;
    const made = StateRecord.create({ boot: this.options.identity.process.boot });
    if (typeof made === 'number') {
      log.error(`There is no memory for the record of who owns what: ${strerror(made)}`);
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

  // ---- the manager's word

  private compareSoon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.learn();
    }, this.compareDelay).unref();
  }

  /** Asks the manager, while nobody waits for it. */
  private learn(): void {
    if (this.survivor?.isBusy() === true) {
      this.compareSoon();
      return;
    }
    const changes = this.store?.changes;
    void this.ask().then((answer) => {
      if (this.store === null) this.decide(answer);
      else this.compare(answer, changes === this.store.changes);
    });
  }

  private decide(answer: StoreStatus | null): void {
    this.hasStore = answer === null ? undefined : answer.max > 0;
    if (answer !== null && answer.max > 0) this.begin(answer.max);
    else this.lookAgain();
  }

  /** @param isCurrent nothing was stored or removed since the question */
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
      if (this.isShortReported) log.info('All is in the descriptor store again that should be');
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
    // Once more is enough to find out that there is no room.
    if (this.shortfall !== before || hasRoom) store.storeAgain();
  }

  private async ask(): Promise<StoreStatus | null> {
    return this.options.ask === undefined ? askStore(ownUnit()) : this.options.ask();
  }

  // ---- for others

  /** The record's descriptor, for the program that is executed next; undefined while the store is emptied for one that knows neither. */
  get record(): number | undefined {
    return this.isEmptied ? undefined : this.recorder?.descriptor;
  }

  get isActive(): boolean {
    return this.recorder !== null;
  }

  /** What is held would outlive the process. Takes no time to find out. */
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

  /** The daemon ends, or its successor cannot take anything from the store: takes all out. Not awaited. */
  empty(): void {
    this.isEmptied = true;
    this.recorder?.suspend();
    this.store?.empty();
  }

  /** As {@link empty}, and waits until it is so. Returns why not, in words. */
  async emptyForOther(): Promise<string | undefined> {
    this.empty();
    if (this.store === null) return undefined;
    const until = performance.now() + EMPTY_MS;
    for (;;) {
      const isSent = this.store.flush();
      // Before the manager has processed what was sent, its count is an old one: it is asked again and again.
      const answer = isSent ? await this.ask() : null;
      if (answer !== null && answer.count === 0) return undefined;
      if (performance.now() > until) return 'the service manager does not give back the descriptors that it keeps';
      await new Promise((resolve) => setTimeout(resolve, EMPTY_CHECK_MS));
    }
  }

  /** Before the daemon leaves all to the next: waits, not forever, until the manager has been sent what it is to keep. */
  async settle(milliseconds = SETTLE_MS): Promise<void> {
    const until = performance.now() + milliseconds;
    while (this.store?.flush() === false && performance.now() < until)
      await new Promise((resolve) => setTimeout(resolve, EMPTY_CHECK_MS));
  }

  /** Puts all in again: the daemon goes on. */
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
