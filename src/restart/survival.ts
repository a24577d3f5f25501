/**
 * Decides whether the daemon's state outlives the process. With a service manager that stores descriptors it does. Without one, locks end
 * with the process, as C's do. The environment may say which it is at the start. Else the manager is asked while the daemon serves, and
 * all is recorded and stored until it answers: no lock is granted that would end with the process, and no call waits for the answer. If
 * there is no store, or no answer within 10 s, all is as if nothing had been stored.
 */
import type { Daemon } from '../daemon/daemon.ts';
import type { FileKeeper } from '../lockspace/file-keeper.ts';
import type { HeldFile } from '../lockspace/files.ts';
import { logger } from '../log/log.ts';
import type { SurvivalView } from '../inquire/host.ts';
import type { LastDeath } from '../inquire/state.ts';
import { isLocalFile } from '../lockspace/local-files.ts';
import { now } from '../posix/clock.ts';
import { lastStat, posix, type Stat, strerror } from '../posix/posix.ts';
import { askEnd, endText, type ProcessEnd } from '../store/journal.ts';
import { askStore, unitWithStore, type StoreStatus } from '../store/manager.ts';
import { discardQueue, FilesInFlight } from '../store/in-flight.ts';
import { serialOf, type StoredName } from '../store/names.ts';
import { StateRecord } from '../store/record.ts';
import { DescriptorStore, type ManagerLink } from '../store/store.ts';
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
/** Until it is checked again whether a child may be spawned, in milliseconds. */
const BUSY_MS = 100;
/** How long emptying the store may take, and the time between two queries of its count, in milliseconds. */
const EMPTY_MS = 5000;
const EMPTY_CHECK_MS = 50;
/** How long to wait for the manager before whatever it has not taken is lost, in milliseconds. systemd kills a unit after 90 s. */
const FLUSH_MS = 20_000;
/** Until the journal is asked again how the former daemon ended, in milliseconds. It gets the manager's message some time later. */
const ASK_END_MS = [0, 1000, 10_000];

interface SurvivalOptions {
  /** $NOTIFY_SOCKET. */
  readonly socket: ByteString;
  /** $FDSTORE, of systemd 254 and later: the limit of stored descriptors. */
  readonly promised: string | undefined;
  readonly identity: RecorderState;
  /** System calls; a test's own. */
  readonly link?: ManagerLink;
  /** Queries the manager; a test's own. */
  ask?(): Promise<StoreStatus | null>;
  /** Queries the journal for the end of a run of the unit; a test's own. */
  askEnd?(invocation: string): Promise<ProcessEnd | undefined>;
}

/** The daemon, and callbacks into the program. */
interface Survivor {
  readonly daemon: Daemon;
  /** No child may be spawned at present. */
  isBusy(): boolean;
  /** There is a store, or the kernel takes files again: held POSIX locks can become OFD locks. */
  onStore(): void;
  /** There is no store after all: locks that were granted for one become POSIX locks. */
  onNoStore(): Promise<void>;
  /** A lock was granted that would not outlive the process, or it is known by now that there is none. */
  onMortal(): void;
}

export class Survival implements FileKeeper {
  private readonly options: SurvivalOptions;
  private survivor: Survivor | undefined;
  private recorder: Recorder | null = null;
  private store: DescriptorStore | null = null;
  /** Undefined: it is not known yet. There is a recorder all the same. */
  private hasStore: boolean | undefined;
  /** Called at the next answer of the manager, or when it gives none. */
  private answered: (() => void)[] = [];
  private limit = 0;
  private shortfall = 0;
  /** The shortfall for which all descriptors were sent again last. */
  private lastShortfall = 0;
  /** The manager's count at the last shortfall. */
  private lastCount = 0;
  /** The lowest serial number that no name has had. */
  private serial = 0;
  private isEmptied = false;
  /** The limit of a store that was found while it must stay empty. */
  private foundLimit = 0;
  private isShortReported = false;
  private compareDelay = COMPARE_MS;
  /** When the manager is asked next, in milliseconds of now(). */
  private compareAt = Infinity;
  private lookDelay = LOOK_AGAIN_MS;
  private timer: NodeJS.Timeout | undefined;
  /** When this process took over from a daemon that died, in milliseconds of CLOCK_MONOTONIC; undefined once the gap is reported. */
  private tookOver: number | undefined;
  /** The process whose state it took over had died. */
  private isAfterDeath = false;

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
    const { record, stored, queue, strays } = death;
    const words = new Uint32Array(record.slots);
    const store = this.makeStore(words);
    for (const [name, fd] of stored) if (!strays.has(name)) store.adopt(fd, name);
    // Strays are removed by their names, which nothing new may have.
    for (const name of strays.keys()) store.nextSerial = Math.max(store.nextSerial, serialOf(name) + 1);
    this.hasStore = true;
    this.keepFiles(store, queue);
    const recorder = this.start(store, record, this.promisedLimit());
    recorder.isConcluding = true;
    recorder.begin(true);
    conclude(this.daemon, death, recorder, store);
    recorder.isConcluding = false;
    recorder.replaceBank(words);
    recorder.mark();
    adoptStrays(this.daemon, death, store);
    recorder.settingsChanged();
    this.tookOver = now();
    const { hasLeft, invocation } = death.state.recorder;
    this.isAfterDeath = hasLeft !== true;
    if (this.isAfterDeath) {
      this.daemon.lastDeath = { time: Date.now() };
      void this.findEnd(invocation);
    }
    this.learn();
  }

  /** Finds out how the former daemon ended, while this one serves. */
  private async findEnd(invocation: string | undefined): Promise<void> {
    let end: ProcessEnd | undefined;
    for (const delay of invocation === undefined ? [] : ASK_END_MS) {
      await new Promise((resolve) => setTimeout(resolve, delay).unref());
      while (this.survivor?.isBusy() === true) await new Promise((resolve) => setTimeout(resolve, BUSY_MS).unref());
      end = await this.askEnd(invocation ?? '');
      if (end !== undefined) break;
    }
    if (end === undefined) {
      log.warn('It is not known how the former daemon ended: the journal has no message about it');
      return;
    }
    log.warn(`The former daemon ${endText(end)}`);
    this.addToDeath(end);
  }

  /** Records what has been found out about the former daemon's death. */
  private addToDeath(facts: Partial<LastDeath>): void {
    const { daemon } = this;
    daemon.lastDeath = { time: Date.now(), ...daemon.lastDeath, ...facts };
    this.recorder?.settingsChanged();
  }

  /**
   * Goes on with the record of the previous program image of this process.
   *
   * @param names of its descriptors in the store, which are removed from it if the record cannot be used: the manager would not store
   *   them again by other names
   * @param queue its queue of files
   */
  goOn(fd: number, names: readonly StoredName[], queue: number | undefined): void {
    let record: StateRecord;
    try {
      record = StateRecord.open(fd, this.options.identity.process.boot);
    } catch (error) {
      log.error(`The state record is lost, and will be begun again: ${(error as Error).message}`);
      this.beginAgain(names);
      if (queue !== undefined) discardQueue(queue);
      for (const lost of [fd, queue]) if (lost !== undefined) posix.close(lost);
      return;
    }
    const store = this.makeStore(record.bank.names);
    this.keepFiles(store, queue);
    this.hasStore = true;
    const recorder = this.start(store, record, this.promisedLimit());
    recorder.begin(true);
    recorder.mark();
    this.learn();
  }

  /** @param names of the descriptors to remove from the store */
  private beginAgain(names: readonly StoredName[]): void {
    this.discard(names);
    // If a new descriptor had such a name, the removal might come behind its store, and remove it.
    for (const name of names) this.serial = Math.max(this.serial, serialOf(name) + 1);
    this.hasStore = true;
    this.begin(this.promisedLimit());
  }

  /** All locks of the previous program image are adopted. */
  takeoverFinished(): void {
    this.recorder?.countMortal();
    this.survivor?.onMortal();
  }

  /**
   * Finds out whether there is a store, by the environment or by a query.
   *
   * @param isFresh nothing is held yet: whatever comes is recorded and stored before the answer
   */
  look(isFresh = false): void {
    const promised = this.promisedLimit();
    if (promised > 0) {
      this.hasStore = true;
      this.begin(promised);
      return;
    }
    if (isFresh) this.begin(0);
    this.learn();
  }

  /** Removes from the store the descriptors of a daemon whose record cannot be used. */
  discard(names: Iterable<StoredName>): void {
    const store = this.makeStore(new Uint32Array(0));
    for (const name of names) store.remove(name);
  }

  /** Resolves when it is known whether there is a store, or the manager cannot be asked: after 10 s at most. */
  async answer(): Promise<void> {
    if (this.recorder !== null && this.hasStore === undefined)
      await new Promise<void>((resolve) => this.answered.push(resolve));
  }

  private makeStore(words: Uint32Array): DescriptorStore {
    return new DescriptorStore(this.options.socket, words, this.options.link);
  }

  private promisedLimit(): number {
    const { promised = '' } = this.options;
    return /^\d{1,9}$/.test(promised) ? Number(promised) : 0;
  }

  /**
   * Begins to record and store; nothing is in the store yet.
   *
   * @param limit of the store; 0: not known
   */
  private begin(limit: number): void {
    // The next program knows no store, and would leave there whatever is stored now.
    this.foundLimit = this.isEmptied ? limit : 0;
    if (this.isEmptied) return;
    const made = StateRecord.create({ boot: this.options.identity.process.boot });
    if (typeof made === 'number') {
      log.error(`There is no memory for the state record: ${strerror(made)}`);
      this.lookAgain();
      return;
    }
    const store = this.makeStore(made.bank.names);
    store.nextSerial = this.serial;
    this.keepFiles(store, undefined);
    const recorder = this.start(store, made, limit);
    recorder.begin(false);
    recorder.mark();
    if (this.hasStore !== true) return;
    this.compareSoon();
    this.survivor?.onStore();
  }

  /** The recorder has given up. */
  private ended(): void {
    this.serial = this.store?.nextSerial ?? this.serial;
    this.recorder = null;
    this.store = null;
    this.shortfall = this.lastShortfall = 0;
    this.lookAgain();
  }

  /** @param queue of the previous process or program image */
  private keepFiles(store: DescriptorStore, queue = posix.createQueue()): void {
    if (queue < 0) {
      log.error(`There is no queue for locked files, which would not outlive the daemon: ${strerror(queue)}`);
      return;
    }
    const files = new FilesInFlight(queue, store.keptFiles());
    files.onSent = () => this.survivor?.onStore();
    store.keepFilesBy(files);
  }

  private start(store: DescriptorStore, record: StateRecord, limit: number): Recorder {
    const onFailure = (): void => {
      this.ended();
    };
    this.limit = limit;
    this.store = store;
    store.onStored = () => {
      this.compareDelay = COMPARE_MS;
      // Clients may come all the time, and must not put it off for ever.
      if (this.compareAt > now() + COMPARE_MS) this.compareSoon();
    };
    const { identity } = this.options;
    const room = limit > 0 ? limit : Infinity;
    return (this.recorder = new Recorder(this.daemon, store, record, identity, room, onFailure));
  }

  private lookAgain(): void {
    clearTimeout(this.timer);
    this.compareAt = Infinity;
    this.timer = setTimeout(() => {
      this.look();
    }, this.lookDelay).unref();
    this.lookDelay = Math.min(this.lookDelay * 2, MAX_LOOK_AGAIN_MS);
  }

  // ---- the manager's answers

  private compareSoon(): void {
    clearTimeout(this.timer);
    this.compareAt = now() + this.compareDelay;
    this.timer = setTimeout(() => {
      this.compareAt = Infinity;
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
    void this.ask().then(async (answer) => {
      if (answer !== null) this.reportGap(answer);
      if (this.store === null || this.hasStore === undefined) await this.decide(answer);
      else this.compare(answer, changes === this.store.changes);
      for (const resolve of this.answered.splice(0)) resolve();
    });
  }

  private reportGap({ ended }: StoreStatus): void {
    if (this.tookOver !== undefined && ended > 0 && ended < this.tookOver) {
      const gap = Math.round(this.tookOver - ended);
      log.warn(`No client was served for ${gap} ms after the former daemon's end`);
      // The former daemon may have left all to this one.
      if (this.isAfterDeath) this.addToDeath({ gap });
    }
    this.tookOver = undefined;
  }

  private async decide(answer: StoreStatus | null): Promise<void> {
    this.hasStore = answer === null ? undefined : answer.max > 0;
    const { recorder } = this;
    if (recorder === null) {
      if (answer !== null && answer.max > 0) this.begin(answer.max);
      else this.lookAgain();
    } else if (answer === null || answer.max === 0) {
      recorder.giveUp();
      this.ended();
      await this.survivor?.onNoStore();
    } else {
      this.limit = recorder.limit = answer.max;
      this.survivor?.onStore();
      this.compareSoon();
    }
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
      if (hasGrown) recorder.keepAll();
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

  /** Null when that cannot be found out, for example without a descriptor for /proc. */
  private async ask(): Promise<StoreStatus | null> {
    try {
      return await (this.options.ask === undefined ? askStore(unitWithStore()) : this.options.ask());
    } catch {
      return null;
    }
  }

  private async askEnd(invocation: string): Promise<ProcessEnd | undefined> {
    return this.options.askEnd?.(invocation) ?? askEnd(invocation, unitWithStore().manager);
  }

  // ---- for others

  /** The record's descriptor for the next program image; undefined once the store is emptied, for a program that knows no record. */
  get record(): number | undefined {
    return this.isEmptied ? undefined : this.recorder?.descriptor;
  }

  /** Names of all descriptors in the store. */
  get names(): readonly StoredName[] | undefined {
    return this.record === undefined ? undefined : this.store?.names;
  }

  /** As {@link record}, the queue's. */
  get queue(): number | undefined {
    const queue = this.store?.queue ?? -1;
    return this.isEmptied || queue < 0 ? undefined : queue;
  }

  /** Whether anything outlives this process, as far as is known. */
  get isActive(): boolean {
    return this.recorder !== null && this.hasStore === true;
  }

  /** Descriptors wait to be sent to the manager. Makes no system call. */
  get isSending(): boolean {
    return (this.store?.unsentCount ?? 0) > 0;
  }

  /** Every held lock would outlive the process, once the manager has been sent all descriptors. Makes no system call. */
  get everyLockWouldOutlive(): boolean {
    const { recorder, store } = this;
    return (
      recorder !== null &&
      store !== null &&
      this.hasStore === true &&
      recorder.hasCounted &&
      recorder.mortalFiles.size === 0 &&
      store.unsentFiles === 0 &&
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
      mortalLocal: mortalLocal + (store?.unsentFiles ?? 0),
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
    const until = now() + EMPTY_MS;
    for (;;) {
      const isSent = this.store.flush();
      // The manager's count is stale until it has processed all messages: query it until it is 0.
      const answer = isSent ? await this.ask() : null;
      if (answer !== null && answer.count === 0) return undefined;
      if (now() > until) return 'the service manager has not removed all descriptors from its store';
      await new Promise((resolve) => setTimeout(resolve, EMPTY_CHECK_MS));
    }
  }

  /** Waits, for a limited time, until the manager has been sent all that it is to keep: the daemon leaves it to the next process. */
  async flush(milliseconds = FLUSH_MS): Promise<boolean> {
    const until = now() + milliseconds;
    while (this.store?.flush() === false) {
      if (now() >= until) return false;
      await new Promise((resolve) => setTimeout(resolve, EMPTY_CHECK_MS));
    }
    return true;
  }

  /** Stores what else a process that is about to leave must keep: see {@link Recorder.keepListeners}. */
  keepListeners(): void {
    this.recorder?.keepListeners();
  }

  /** Records that this process leaves all to the next one. */
  leave(): void {
    this.recorder?.leave();
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
