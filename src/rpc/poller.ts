/**
 * All sockets of the daemon, polled together: see the poller in posix/addon.c for why. Handlers run to their end before
 * the next event is looked at, so that between two rounds nothing is in progress; the restart relies on it.
 */
import { readlinkSync } from 'node:fs';
import os from 'node:os';
import { logger } from '../log/log.ts';
import { insist } from '../posix/insist.ts';
import { Epoll, PollRecord, posix, strerror, WATCHED } from '../posix/posix.ts';
import { outbox } from './outbox.ts';

const log = logger('rpc.netserver');

/** Bytes that one round may receive in all; a connection gets at most 16 KiB of them. */
const INPUT_SIZE = 1024 * 1024;
const RECORDS = 512;
const LISTENERS = 16;
const BUDGET_MOST = 0x7fffffff;
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

const input = Buffer.allocUnsafeSlow(INPUT_SIZE);
const records = new Int32Array(RECORDS * PollRecord.WORDS);
const budgets = new Int32Array(LISTENERS);
/** By descriptor. */
const connections: (Pollable | undefined)[] = [];
/** By descriptor: what is called once it is readable. */
const watchers = new Map<number, () => void>();
/** By index into the budgets. */
const acceptors: { fd: number; acceptor: Acceptor }[] = [];
/** Listening sockets that are accepted from at present. */
const watchedListeners = new Set<number>();
let events = 0;
/** The epoll descriptor; -1 until something is to be polled. */
let epoll = -1;
/** What the program before this one left in its place, or -1. */
let inherited = -1;
/** It has been said that polling cannot begin. */
let isSaid = false;
/** Takes up the connection behind a descriptor that was watched before this program was executed. */
let onInherited: ((fd: number) => void) | null = null;
/** When the present round, or a postponed connection's turn, has lasted so long that others must not wait for more of it. */
let deadline = Infinity;
/** What is to be done once polling has begun, or to be tried again, by descriptor: the kernel had no memory for it. */
const unset = new Map<number, () => void>();
/** It will be tried again: by one timer, however much of it there is. */
let isRetryDue = false;
/** Connections that wait for another turn. */
const postponed: { readonly fd: number; readonly connection: Pollable }[] = [];

function word(index: number): number {
  return records[index] ?? 0;
}

function handle(at: number): void {
  const fd = word(at + 1);
  switch (word(at)) {
    case PollRecord.READ:
      // Absent when a handler closed it earlier in this round.
      connectionAt(fd)?.onRead(input, word(at + 3), word(at + 2), word(at + 4) !== 0);
      break;
    case PollRecord.WRITABLE:
      connectionAt(fd)?.onWritable();
      break;
    case PollRecord.ACCEPT:
      acceptors
        .find((entry) => entry.fd === fd)
        ?.acceptor.onAccept(word(at + 2), word(at + 3), word(at + 4) >>> 0, word(at + 5) >>> 0);
      break;
    case PollRecord.READY:
      onReady(fd);
      break;
    default:
      break;
  }
}

function onReady(fd: number): void {
  const onReadable = watchers.get(fd);
  poller.unwatch(fd);
  onReadable?.();
}

function handleRound(first: number, count: number): void {
  let i = first;
  try {
    for (; i < count; i++) handle(i * PollRecord.WORDS);
  } finally {
    // A defect in one handler: the others' bytes have been received already, and would be lost.
    if (i < count) handleRound(i + 1, count);
  }
}

function onRound(count: number): void {
  events += count;
  deadline = performance.now() + TURN_MS;
  try {
    handleRound(0, count);
  } finally {
    deadline = Infinity;
    outbox.send();
  }
}

/** One at a time: between two turns the poller has its own. */
function onTurn(): void {
  const next = postponed.shift();
  if (postponed.length > 0) setImmediate(onTurn);
  // Absent when it was closed meanwhile.
  if (next === undefined || connections[next.fd] !== next.connection) return;
  deadline = performance.now() + TURN_MS;
  set(Epoll.ADD, next.fd, Epoll.IN, 0);
  try {
    next.connection.onTurn();
  } finally {
    deadline = Infinity;
    outbox.send();
  }
}

function connectionAt(fd: number): Pollable | undefined {
  if (connections[fd] === undefined) onInherited?.(fd);
  return connections[fd];
}

/** What the kernel has no room or memory for yet is asked for again: what nobody polls is never heard. */
function begin(): void {
  if (epoll >= 0) return;
  const status = posix.pollerStart(onRound, records, input, budgets, inherited);
  if (status >= 0) {
    epoll = status;
    setAgain();
    return;
  }
  if (!isSaid) log.error(`Cannot poll connections yet, and try again: ${strerror(status)}`);
  isSaid = true;
  retryLater();
}

function set(operation: number, fd: number, events: number, listener: number): void {
  // What was not added yet can only be added.
  const isMissing = unset.delete(fd);
  const wanted = isMissing && operation === Epoll.MODIFY ? Epoll.ADD : operation;
  if (epoll < 0) {
    // Not before it is known whether the program before this one has left an epoll.
    setLater(wanted, fd, events, listener);
    setImmediate(begin);
    return;
  }
  const status = posix.pollerSet(wanted, fd, events, listener);
  if (status === -ENOMEM || status === -ENOSPC) {
    setLater(wanted, fd, events, listener);
    retryLater();
  } else if (status < 0 && !(isMissing && operation === Epoll.DELETE)) {
    throw new Error(`epoll_ctl ${operation} on descriptor ${fd}: errno ${-status}`);
  }
}

function setLater(operation: number, fd: number, events: number, listener: number): void {
  if (operation === Epoll.DELETE) return;
  unset.set(fd, () => {
    set(operation, fd, events, listener);
  });
}

function retryLater(): void {
  if (isRetryDue) return;
  isRetryDue = true;
  setTimeout(() => {
    isRetryDue = false;
    if (epoll < 0) begin();
    else setAgain();
  }, RETRY_MS);
}

function setAgain(): void {
  for (const again of [...unset.values()]) again();
}

/** Takes a descriptor from the poller, which need not be there. */
function forget(fd: number): void {
  unset.delete(fd);
  posix.pollerSet(Epoll.DELETE, fd, 0, 0);
}

export const poller = {
  /** How many events there have been: a connection that came, ended, or sent one request or several at once. */
  get events(): number {
    return events;
  },
  /** The epoll descriptor, which a re-execution may hand over with all that hangs on it. -1 when there is none yet. */
  get descriptor(): number {
    return epoll < 0 ? inherited : epoll;
  },
  /** Whether the descriptor is an epoll's that {@link inherit} can go on with. */
  isEpoll(fd: number): boolean {
    try {
      const link = insist(
        () => readlinkSync(`/proc/self/fd/${fd}`),
        (error) => (error as NodeJS.ErrnoException).code !== 'ENOENT',
      );
      return link === 'anon_inode:[eventpoll]';
    } catch {
      return false;
    }
  },
  /**
   * Goes on with an epoll of the program before this one. For what happens on a connection that was not added yet, `take` is
   * called first, which may add it.
   */
  inherit(fd: number, take: (fd: number) => void): void {
    inherited = fd;
    onInherited = take;
    begin();
  },
  /** Leaves what is not to be added alone. */
  disown(fd: number): void {
    forget(fd);
  },
  /** All inherited connections were added, or will never be. */
  endInheritance(): void {
    onInherited = null;
  },
  /** Watches a connection for input. */
  add(fd: number, connection: Pollable): void {
    connections[fd] = connection;
    set(Epoll.ADD, fd, Epoll.IN, 0);
  },
  /** Waits for room to send instead of for input: a peer that does not read is not read from. */
  awaitWritable(fd: number): void {
    set(Epoll.MODIFY, fd, Epoll.OUT, 0);
  },
  awaitReadable(fd: number): void {
    set(Epoll.MODIFY, fd, Epoll.IN, 0);
  },
  /** Waits for neither: only the peer's end is reported, as the end of file. */
  awaitEnd(fd: number): void {
    set(Epoll.MODIFY, fd, Epoll.NONE, 0);
  },
  /** Calls back once when a descriptor that is no connection becomes readable, such as a pidfd. */
  watch(fd: number, onReadable: () => void): void {
    watchers.set(fd, onReadable);
    set(Epoll.ADD, fd, Epoll.IN, WATCHED);
  },
  unwatch(fd: number): void {
    watchers.delete(fd);
    forget(fd);
  },
  /** Whether a round has taken so long that the rest of it should be postponed. */
  get isOverdue(): boolean {
    return performance.now() >= deadline;
  },
  /** Reads nothing from a connection until its turn has come, when others have had theirs. */
  postpone(fd: number, connection: Pollable): void {
    set(Epoll.DELETE, fd, 0, 0);
    if (postponed.push({ fd, connection }) === 1) setImmediate(onTurn);
  },
  /** Forgets a connection; its descriptor stays open. */
  remove(fd: number): void {
    connections[fd] = undefined;
    // Not there when it was postponed.
    forget(fd);
  },
  /** Registers a listening socket, not yet watched. */
  addListener(fd: number, acceptor: Acceptor): void {
    if (acceptors.length === LISTENERS) throw new Error(`more than ${LISTENERS} listening sockets`);
    acceptors.push({ fd, acceptor });
  },
  /** Accepts up to `budget` connections from now on; 0 leaves newcomers in the backlog. */
  setBudget(fd: number, budget: number): void {
    const index = acceptors.findIndex((entry) => entry.fd === fd);
    // What the addon reads is 32 bits; a limit on clients may be more.
    budgets[index] = Math.min(budget, BUDGET_MOST);
    if (budget > 0 === watchedListeners.has(fd)) return;
    if (budget > 0) {
      set(Epoll.ADD, fd, Epoll.IN, index + 1);
      watchedListeners.add(fd);
    } else {
      set(Epoll.DELETE, fd, 0, 0);
      watchedListeners.delete(fd);
    }
  },
};
