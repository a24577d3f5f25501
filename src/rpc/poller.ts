/**
 * All sockets of the daemon, polled together: see the poller in posix/addon.c for why. Handlers run to their end before
 * the next event is looked at, so that between two rounds nothing is in progress; the restart relies on it.
 */
import { Epoll, PollRecord, posix } from '../posix/posix.ts';
import { outbox } from './outbox.ts';

/** Bytes that one round may receive in all; a connection gets at most 16 KiB of them. */
const INPUT_SIZE = 1024 * 1024;
const RECORDS = 512;
const LISTENERS = 16;

/** Something with a descriptor that the poller watches. */
export interface Pollable {
  /** `length` bytes came (0: end of file; negative: -errno); `descriptors`: some were attached, and dropped. */
  onRead(input: Buffer, offset: number, length: number, descriptors: boolean): void;
  /** There is room to send again. */
  onWritable(): void;
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
/** By index into the budgets. */
const acceptors: { fd: number; acceptor: Acceptor }[] = [];
/** Listening sockets that are accepted from at present. */
const watchedListeners = new Set<number>();
let started = false;
let rounds = 0;

function word(index: number): number {
  return records[index] ?? 0;
}

function handleRound(count: number): void {
  for (let i = 0, at = 0; i < count; i++, at += PollRecord.WORDS) {
    const fd = word(at + 1);
    switch (word(at)) {
      case PollRecord.READ:
        // Absent when a handler closed it earlier in this round.
        connections[fd]?.onRead(input, word(at + 3), word(at + 2), word(at + 4) !== 0);
        break;
      case PollRecord.WRITABLE:
        connections[fd]?.onWritable();
        break;
      case PollRecord.ACCEPT:
        acceptors
          .find((entry) => entry.fd === fd)
          ?.acceptor.onAccept(word(at + 2), word(at + 3), word(at + 4) >>> 0, word(at + 5) >>> 0);
        break;
      default:
        break;
    }
  }
}

function onRound(count: number): void {
  rounds++;
  try {
    handleRound(count);
  } finally {
    outbox.send();
  }
}

function set(operation: number, fd: number, events: number, listener: number): void {
  if (!started) {
    const status = posix.pollerStart(onRound, records, input, budgets);
    if (status < 0) throw new Error(`cannot start polling: errno ${-status}`);
    started = true;
  }
  const status = posix.pollerSet(operation, fd, events, listener);
  if (status < 0) throw new Error(`epoll_ctl ${operation} on descriptor ${fd}: errno ${-status}`);
}

export const poller = {
  /** How many rounds there have been: each served one request or several. */
  get rounds(): number {
    return rounds;
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
  /** Forgets a connection; its descriptor stays open. */
  remove(fd: number): void {
    connections[fd] = undefined;
    set(Epoll.DELETE, fd, 0, 0);
  },
  /** Registers a listening socket, not yet watched. */
  addListener(fd: number, acceptor: Acceptor): void {
    if (acceptors.length === LISTENERS) throw new Error(`more than ${LISTENERS} listening sockets`);
    acceptors.push({ fd, acceptor });
  },
  /** Accepts up to `budget` connections from now on; 0 leaves newcomers in the backlog. */
  setBudget(fd: number, budget: number): void {
    const index = acceptors.findIndex((entry) => entry.fd === fd);
    budgets[index] = budget;
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
