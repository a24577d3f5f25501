/**
 * Polls all sockets of the daemon together: posix/addon.c says why. The addon has one poller, so only one Poller of a process may
 * have anything to poll. Each handler runs to its end before the next event is handled, so nothing is in progress between two
 * rounds. The restart relies on that.
 */
import { constants } from 'node:os';
import { logger } from '../log/log.ts';
import { now } from '../posix/clock.ts';
import { CallMark, Epoll, PollRecord, posix, strerror, WATCHED } from '../posix/posix.ts';
import { Outbox } from './outbox.ts';
import { SLICE_MS } from './slices.ts';

const log = logger('rpc.netserver');

/** Bytes that one round may receive, of one connection at most 16 KiB. */
const INPUT_SIZE = 1024 * 1024;
const RECORDS = 512;
/** As in addon.c. */
const LISTENERS = 16;
const MAX_BUDGET = 0x7fffffff;
/** When a call that the kernel had no memory for is repeated, in milliseconds. */
const RETRY_MS = 20;
const { ENOMEM, ENOSPC } = constants.errno;

/** Something with a descriptor that the poller watches. */
export interface Pollable {
  /** `length` bytes were read (0: end of file; negative: -errno). `descriptors`: the kernel dropped some that were attached. */
  onRead(input: Buffer, offset: number, length: number, descriptors: boolean): void;
  /** The peer has made room to send. */
  onWritable(): void;
  /** Its turn after {@link Poller.postpone}. */
  onTurn(): void;
}

interface Watcher {
  readonly onReadable: () => void;
  /** The round in which it was added, or the last one before. */
  readonly round: number;
}

interface Postponed {
  readonly fd: number;
  readonly connection: Pollable;
}

export interface Acceptor {
  /** `fd`: the accepted connection, or accept's -errno. */
  onAccept(fd: number, pid: number, uid: number, gid: number): void;
}

export class Poller {
  /** Replies of the present round. */
  readonly outbox = new Outbox();
  private readonly input = Buffer.allocUnsafeSlow(INPUT_SIZE);
  private readonly records = new Int32Array(RECORDS * PollRecord.WORDS);
  /** Of each listener; behind them, in the same order, the descriptors at which accepting pauses. */
  private readonly budgets = new Int32Array(2 * LISTENERS);
  /** By descriptor. */
  private readonly connections: (Pollable | undefined)[] = [];
  /** By descriptor. */
  private readonly watchers = new Map<number, Watcher>();
  private rounds = 0;
  /** By index into the budgets. */
  private readonly acceptors: { readonly fd: number; readonly acceptor: Acceptor }[] = [];
  /** Listening sockets with a budget above 0. */
  private readonly watchedListeners = new Set<number>();
  private eventCount = 0;
  /** The epoll descriptor; -1 until polling begins. */
  private epoll = -1;
  /** The epoll descriptor of the former program image, or -1. */
  private inherited = -1;
  /** The log says that polling cannot begin. */
  private isReported = false;
  /** Adopts a connection that the former program image has registered. */
  private onInherited: ((fd: number) => void) | null = null;
  /** When the present round, or the turn of a postponed connection, must end, as others wait. */
  private deadline = Infinity;
  /** Calls to make once polling has begun, or to repeat because the kernel had no memory; by descriptor. */
  private readonly unset = new Map<number, () => void>();
  /** A timer for {@link unset} runs. */
  private isRetryDue = false;
  /** By descriptor, the {@link CallMark} of its connection. Null without a record. */
  private marks: Uint32Array | null = null;
  /** The present round has newcomers. */
  private hasNewcomers = false;
  /** Connections that wait for another turn. */
  private readonly postponed: Postponed[] = [];

  /** How many events there have been: newcomers, ends of connections, and reads, each of one request or more. */
  get events(): number {
    return this.eventCount;
  }

  /** The epoll descriptor, which a re-execution may hand over with all sockets registered in it. -1 when there is none yet. */
  get descriptor(): number {
    return this.epoll < 0 ? this.inherited : this.epoll;
  }

  /** Goes on with the former program image's epoll. At an event of an unknown connection it calls `adopt`, which may add that. */
  inherit(fd: number, adopt: (fd: number) => void): void {
    this.inherited = fd;
    this.onInherited = adopt;
    this.begin();
  }

  /** No inherited connection is left to be added. */
  endInheritance(): void {
    this.onInherited = null;
  }

  /** Watches a connection for input. */
  add(fd: number, connection: Pollable): void {
    this.connections[fd] = connection;
    this.set(Epoll.ADD, fd, Epoll.IN, 0);
  }

  /** Polls for room to send instead of for input: nothing is read from a peer that does not read. */
  awaitWritable(fd: number): void {
    this.set(Epoll.MODIFY, fd, Epoll.OUT, 0);
  }

  awaitReadable(fd: number): void {
    this.set(Epoll.MODIFY, fd, Epoll.IN, 0);
  }

  /** Polls for neither. The peer's end is reported all the same, as the end of file. */
  awaitEnd(fd: number): void {
    this.set(Epoll.MODIFY, fd, Epoll.NONE, 0);
  }

  /** Calls back once when a descriptor that is no connection, such as a pidfd, becomes readable. */
  watch(fd: number, onReadable: () => void): void {
    this.watchers.set(fd, { onReadable, round: this.rounds });
    this.set(Epoll.ADD, fd, Epoll.IN, WATCHED);
  }

  unwatch(fd: number): void {
    this.watchers.delete(fd);
    this.forget(fd);
  }

  /**
   * Has `marks` updated, by descriptor, with the {@link CallMark} of each connection; null: none. A listening socket has one from before
   * newcomers are accepted until all of them are recorded.
   *
   * @param round the last round of earlier processes: rounds are counted on from it
   */
  useMarks(marks: Uint32Array | null, round?: number): void {
    posix.useMarks(marks, round ?? -1);
    this.marks = marks;
  }

  /** The {@link CallMark} of a connection; 0: no call is under way. */
  markOf(fd: number): number {
    return this.marks?.[fd] ?? 0;
  }

  /** All input of a connection has been served. The mark goes now, or with the replies if there are any. */
  inputConsumed(fd: number, hasReplies: boolean): void {
    if (this.marks === null) return;
    const mark = this.marks[fd] ?? 0;
    if (mark !== 0) this.marks[fd] = hasReplies ? mark | CallMark.CONSUMED : 0;
  }

  /** Whether the round has taken so long that the rest of it should be postponed. */
  get isOverdue(): boolean {
    return now() >= this.deadline;
  }

  /** Reads nothing from a connection until its turn comes, behind the others. */
  postpone(fd: number, connection: Pollable): void {
    this.set(Epoll.DELETE, fd, 0, 0);
    if (this.postponed.push({ fd, connection }) === 1) setImmediate(this.onTurn);
  }

  /** Removes a connection; its descriptor stays open. */
  remove(fd: number): void {
    this.connections[fd] = undefined;
    this.forget(fd);
  }

  /** Adds a listening socket with a budget of 0. */
  addListener(fd: number, acceptor: Acceptor): void {
    if (this.acceptors.length === LISTENERS) throw new Error(`more than ${LISTENERS} listening sockets`);
    this.acceptors.push({ fd, acceptor });
  }

  /**
   * Accepts up to `budget` connections from now on; 0 leaves newcomers in the kernel's queue. One with a descriptor of `ceiling` or above
   * is the last one.
   */
  setBudget(fd: number, budget: number, ceiling: number): void {
    const index = this.acceptors.findIndex((entry) => entry.fd === fd);
    this.budgets[LISTENERS + index] = Math.min(ceiling, MAX_BUDGET);
    // The addon's budgets have 32 bits; a limit on clients may be above that.
    this.budgets[index] = Math.min(budget, MAX_BUDGET);
    if (budget > 0 === this.watchedListeners.has(fd)) return;
    if (budget > 0) {
      this.set(Epoll.ADD, fd, Epoll.IN, index + 1);
      this.watchedListeners.add(fd);
    } else {
      this.set(Epoll.DELETE, fd, 0, 0);
      this.watchedListeners.delete(fd);
    }
  }

  /** Repeated while the kernel has no room or memory: a socket that is not polled would never be served. */
  private readonly begin = (): void => {
    if (this.epoll >= 0) return;
    const status = posix.pollerStart(this.onRound, this.records, this.input, this.budgets, this.inherited);
    if (status >= 0) {
      this.epoll = status;
      this.setAgain();
      return;
    }
    if (!this.isReported) log.error(`Cannot poll connections yet, and try again: ${strerror(status)}`);
    this.isReported = true;
    this.retryLater();
  };

  private readonly onRound = (count: number): void => {
    this.eventCount += count;
    this.rounds++;
    this.deadline = now() + SLICE_MS;
    try {
      this.handleRound(0, count);
    } finally {
      this.deadline = Infinity;
      if (this.hasNewcomers) this.newcomersRecorded();
      this.outbox.send();
    }
  };

  /** Marks a listening socket before newcomers are accepted there by someone else, until {@link inputConsumed}. */
  newcomersAt(fd: number): void {
    if (this.marks !== null && fd < this.marks.length) this.marks[fd] = CallMark.PRESENT;
  }

  private newcomersRecorded(): void {
    this.hasNewcomers = false;
    for (const { fd } of this.acceptors) this.inputConsumed(fd, false);
  }

  private handleRound(first: number, count: number): void {
    let i = first;
    try {
      for (; i < count; i++) this.handle(i * PollRecord.WORDS);
    } finally {
      // A handler threw. The rest of the round has already been read from the kernel, so handle it before the exception propagates.
      if (i < count) this.handleRound(i + 1, count);
    }
  }

  private handle(at: number): void {
    const fd = this.word(at + 1);
    switch (this.word(at)) {
      case PollRecord.READ:
        // Undefined when a handler has closed it in this round.
        this.connectionAt(fd)?.onRead(this.input, this.word(at + 3), this.word(at + 2), this.word(at + 4) !== 0);
        break;
      case PollRecord.WRITABLE:
        this.connectionAt(fd)?.onWritable();
        break;
      case PollRecord.ACCEPT:
        this.hasNewcomers = true;
        this.acceptors
          .find((entry) => entry.fd === fd)
          ?.acceptor.onAccept(this.word(at + 2), this.word(at + 3), this.word(at + 4) >>> 0, this.word(at + 5) >>> 0);
        break;
      case PollRecord.READY:
        this.onReady(fd);
        break;
      default:
        break;
    }
  }

  private word(index: number): number {
    return this.records[index] ?? 0;
  }

  private connectionAt(fd: number): Pollable | undefined {
    if (this.connections[fd] === undefined) this.onInherited?.(fd);
    return this.connections[fd];
  }

  private onReady(fd: number): void {
    const watcher = this.watchers.get(fd);
    // What was readable is another descriptor, which a handler has closed in this round: its number is given again at once.
    if (watcher?.round === this.rounds) return;
    this.unwatch(fd);
    watcher?.onReadable();
  }

  /** Has the turns now of those postponed connections of which `isDue`. */
  hurry(isDue: (connection: Pollable) => boolean): void {
    for (;;) {
      const index = this.postponed.findIndex(({ connection }) => isDue(connection));
      const [next] = index < 0 ? [] : this.postponed.splice(index, 1);
      if (next === undefined) return;
      this.giveTurn(next);
    }
  }

  /** One connection at a time: a round comes between two turns. */
  private readonly onTurn = (): void => {
    const next = this.postponed.shift();
    if (this.postponed.length > 0) setImmediate(this.onTurn);
    if (next !== undefined) this.giveTurn(next);
  };

  private giveTurn({ fd, connection }: Postponed): void {
    // It may have been closed since.
    if (this.connections[fd] !== connection) return;
    this.deadline = now() + SLICE_MS;
    this.set(Epoll.ADD, fd, Epoll.IN, 0);
    try {
      connection.onTurn();
    } finally {
      this.deadline = Infinity;
      this.outbox.send();
    }
  }

  private set(operation: number, fd: number, events: number, listener: number): void {
    // A descriptor that was not added yet can only be added.
    const isMissing = this.unset.delete(fd);
    const wanted = isMissing && operation === Epoll.MODIFY ? Epoll.ADD : operation;
    if (this.epoll < 0) {
      // Later, because an inherited epoll may turn up until then.
      this.setLater(wanted, fd, events, listener);
      setImmediate(this.begin);
      return;
    }
    const status = posix.pollerSet(wanted, fd, events, listener);
    if (status === -ENOMEM || status === -ENOSPC) {
      this.setLater(wanted, fd, events, listener);
      this.retryLater();
    } else if (status < 0 && !(isMissing && operation === Epoll.DELETE)) {
      throw new Error(`epoll_ctl ${operation} on descriptor ${fd}: errno ${-status}`);
    }
  }

  private setLater(operation: number, fd: number, events: number, listener: number): void {
    if (operation === Epoll.DELETE) return;
    this.unset.set(fd, () => this.set(operation, fd, events, listener));
  }

  private retryLater(): void {
    if (this.isRetryDue) return;
    this.isRetryDue = true;
    setTimeout(() => {
      this.isRetryDue = false;
      if (this.epoll < 0) this.begin();
      else this.setAgain();
    }, RETRY_MS);
  }

  private setAgain(): void {
    for (const again of [...this.unset.values()]) {
      try {
        again();
      } catch (error) {
        // The others are polled all the same. Nothing is thrown: at a start that would end the daemon, with its locks.
        log.error(`A descriptor is not polled: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }

  /** Stops polling a descriptor, if it is polled. */
  forget(fd: number): void {
    this.unset.delete(fd);
    posix.pollerSet(Epoll.DELETE, fd, 0, 0);
  }
}
