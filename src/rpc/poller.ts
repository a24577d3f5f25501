/**
 * All sockets of the daemon, polled together: see the poller in posix/addon.c for why. The addon has one: of a process's Pollers
 * only one may be given anything to poll. Handlers run to their end before the next event is handled, so that between two rounds
 * nothing is in progress; the restart relies on it.
 */
import { readlinkSync } from 'node:fs';
import os from 'node:os';
import { logger } from '../log/log.ts';
import { insist } from '../posix/insist.ts';
import { descriptorPath } from '../proc/descriptors.ts';
import { CallMark, Epoll, PollRecord, posix, strerror, WATCHED } from '../posix/posix.ts';
import { Outbox } from './outbox.ts';

const log = logger('rpc.netserver');

/** Bytes that one round may receive in all; a connection gets at most 16 KiB of them. */
const INPUT_SIZE = 1024 * 1024;
const RECORDS = 512;
const LISTENERS = 16;
const BUDGET_MAX = 0x7fffffff;
/** After which time the kernel is asked again for what it had no memory for, in milliseconds. */
const RETRY_MS = 20;
const { ENOMEM, ENOSPC } = os.constants.errno;
/** For how long connections that send request upon request are served while others wait, in milliseconds. */
const TURN_MS = 5;

/** Something with a descriptor that the poller watches. */
export interface Pollable {
  /** `length` bytes came (0: end of file; negative: -errno); `descriptors`: some were attached, and dropped. */
  onRead(input: Buffer, offset: number, length: number, descriptors: boolean): void;
  /** There is room to send again. */
  onWritable(): void;
  /** It was postponed, and it is its turn. */
  onTurn(): void;
}

export interface Acceptor {
  /** A connection was accepted as `fd`, or accept failed (negative: -errno). */
  onAccept(fd: number, pid: number, uid: number, gid: number): void;
}

/** Whether the descriptor is an epoll's that {@link Poller.inherit} can go on with. */
export function isEpoll(fd: number): boolean {
  try {
    const link = insist(
      () => readlinkSync(descriptorPath('self', fd)),
      (error) => (error as NodeJS.ErrnoException).code !== 'ENOENT',
    );
    return link === 'anon_inode:[eventpoll]';
  } catch {
    return false;
  }
}

export class Poller {
  /** Replies of the present round. */
  readonly outbox = new Outbox();
  private readonly input = Buffer.allocUnsafeSlow(INPUT_SIZE);
  private readonly records = new Int32Array(RECORDS * PollRecord.WORDS);
  private readonly budgets = new Int32Array(LISTENERS);
  /** By descriptor. */
  private readonly connections: (Pollable | undefined)[] = [];
  /** By descriptor: what is called once it is readable. */
  private readonly watchers = new Map<number, () => void>();
  /** By index into the budgets. */
  private readonly acceptors: { readonly fd: number; readonly acceptor: Acceptor }[] = [];
  /** Listening sockets that are accepted from at present. */
  private readonly watchedListeners = new Set<number>();
  private eventCount = 0;
  /** The epoll descriptor; -1 until something is to be polled. */
  private epoll = -1;
  /** The epoll descriptor of the program before this one, or -1. */
  private inherited = -1;
  /** The log says that polling cannot begin. */
  private isReported = false;
  /** Adopts the connection behind a descriptor that was watched before this program was executed. */
  private onInherited: ((fd: number) => void) | null = null;
  /** When the present round, or a postponed connection's turn, has lasted so long that others must not wait for more of it. */
  private deadline = Infinity;
  /** What is to be done once polling has begun, or to be tried again, by descriptor: the kernel had no memory for it. */
  private readonly unset = new Map<number, () => void>();
  /** It will be tried again: by one timer, however much of it there is. */
  private isRetryDue = false;
  /** By descriptor, what is under way: see CallMark. Null when nobody wants to know. */
  private marks: Uint32Array | null = null;
  /** Connections that wait for another turn. */
  private readonly postponed: { readonly fd: number; readonly connection: Pollable }[] = [];

  /** How many events there have been: a connection that came, ended, or sent one request or several at once. */
  get events(): number {
    return this.eventCount;
  }

  /** The epoll descriptor, which a re-execution may hand over with all that hangs on it. -1 when there is none yet. */
  get descriptor(): number {
    return this.epoll < 0 ? this.inherited : this.epoll;
  }

  /**
   * Goes on with an epoll of the program before this one. For what happens on a connection that was not added yet, `adopt` is
   * called first, which may add it.
   */
  inherit(fd: number, adopt: (fd: number) => void): void {
    this.inherited = fd;
    this.onInherited = adopt;
    this.begin();
  }

  /** Leaves what is not to be added alone. */
  disown(fd: number): void {
    this.forget(fd);
  }

  /** All inherited connections were added, or will never be. */
  endInheritance(): void {
    this.onInherited = null;
  }

  /** Watches a connection for input. */
  add(fd: number, connection: Pollable): void {
    this.connections[fd] = connection;
    this.set(Epoll.ADD, fd, Epoll.IN, 0);
  }

  /** Waits for room to send instead of for input: a peer that does not read is not read from. */
  awaitWritable(fd: number): void {
    this.set(Epoll.MODIFY, fd, Epoll.OUT, 0);
  }

  awaitReadable(fd: number): void {
    this.set(Epoll.MODIFY, fd, Epoll.IN, 0);
  }

  /** Waits for neither: only the peer's end is reported, as the end of file. */
  awaitEnd(fd: number): void {
    this.set(Epoll.MODIFY, fd, Epoll.NONE, 0);
  }

  /** Calls back once when a descriptor that is no connection becomes readable, such as a pidfd. */
  watch(fd: number, onReadable: () => void): void {
    this.watchers.set(fd, onReadable);
    this.set(Epoll.ADD, fd, Epoll.IN, WATCHED);
  }

  unwatch(fd: number): void {
    this.watchers.delete(fd);
    this.forget(fd);
  }

  /** From now on it is written there, by descriptor, which connections have a call under way; null: nowhere. */
  useMarks(marks: Uint32Array | null): void {
    posix.useMarks(marks);
    this.marks = marks;
  }

  /** The {@link CallMark} of a connection. */
  markOf(fd: number): number {
    return this.marks?.[fd] ?? 0;
  }

  /** All that was read of a connection has been served, and nothing is left of it but replies that are to be sent, if there are any. */
  inputConsumed(fd: number, hasReplies: boolean): void {
    if (this.marks === null) return;
    const mark = this.marks[fd] ?? 0;
    if (mark !== 0) this.marks[fd] = hasReplies ? mark | CallMark.CONSUMED : 0;
  }

  /** Whether a round has taken so long that the rest of it should be postponed. */
  get isOverdue(): boolean {
    return performance.now() >= this.deadline;
  }

  /** Reads nothing from a connection until its turn has come, when others have had theirs. */
  postpone(fd: number, connection: Pollable): void {
    this.set(Epoll.DELETE, fd, 0, 0);
    if (this.postponed.push({ fd, connection }) === 1) setImmediate(this.onTurn);
  }

  /** Forgets a connection; its descriptor stays open. */
  remove(fd: number): void {
    this.connections[fd] = undefined;
    // Not there when it was postponed.
    this.forget(fd);
  }

  /** Registers a listening socket, not yet watched. */
  addListener(fd: number, acceptor: Acceptor): void {
    if (this.acceptors.length === LISTENERS) throw new Error(`more than ${LISTENERS} listening sockets`);
    this.acceptors.push({ fd, acceptor });
  }

  /** Accepts up to `budget` connections from now on; 0 leaves newcomers in the kernel's queue. */
  setBudget(fd: number, budget: number): void {
    const index = this.acceptors.findIndex((entry) => entry.fd === fd);
    // What the addon reads is 32 bits; a limit on clients may be more.
    this.budgets[index] = Math.min(budget, BUDGET_MAX);
    if (budget > 0 === this.watchedListeners.has(fd)) return;
    if (budget > 0) {
      this.set(Epoll.ADD, fd, Epoll.IN, index + 1);
      this.watchedListeners.add(fd);
    } else {
      this.set(Epoll.DELETE, fd, 0, 0);
      this.watchedListeners.delete(fd);
    }
  }

  /** What the kernel has no room or memory for yet is asked for again: what nobody polls is never heard. */
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
    this.deadline = performance.now() + TURN_MS;
    try {
      this.handleRound(0, count);
    } finally {
      this.deadline = Infinity;
      this.outbox.send();
    }
  };

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
        // Absent when a handler closed it earlier in this round.
        this.connectionAt(fd)?.onRead(this.input, this.word(at + 3), this.word(at + 2), this.word(at + 4) !== 0);
        break;
      case PollRecord.WRITABLE:
        this.connectionAt(fd)?.onWritable();
        break;
      case PollRecord.ACCEPT:
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
    const onReadable = this.watchers.get(fd);
    this.unwatch(fd);
    onReadable?.();
  }

  /** One at a time: between two turns the poller has its own. */
  private readonly onTurn = (): void => {
    const next = this.postponed.shift();
    if (this.postponed.length > 0) setImmediate(this.onTurn);
    // Absent when it was closed since.
    if (next === undefined || this.connections[next.fd] !== next.connection) return;
    this.deadline = performance.now() + TURN_MS;
    this.set(Epoll.ADD, next.fd, Epoll.IN, 0);
    try {
      next.connection.onTurn();
    } finally {
      this.deadline = Infinity;
      this.outbox.send();
    }
  };

  private set(operation: number, fd: number, events: number, listener: number): void {
    // What was not added yet can only be added.
    const isMissing = this.unset.delete(fd);
    const wanted = isMissing && operation === Epoll.MODIFY ? Epoll.ADD : operation;
    if (this.epoll < 0) {
      // Not before it is known whether the program before this one has left an epoll.
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
    this.unset.set(fd, () => {
      this.set(operation, fd, events, listener);
    });
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
    for (const again of [...this.unset.values()]) again();
  }

  /** Takes a descriptor from the poller, which need not be there. */
  private forget(fd: number): void {
    this.unset.delete(fd);
    posix.pollerSet(Epoll.DELETE, fd, 0, 0);
  }
}
