/**
 * Keeps locked files beyond the process's life. Their descriptors are in flight: sent by messages into a queue and not received. The
 * service manager stores the queue's descriptor, once. As long as the manager has that, the kernel keeps the messages, with them the
 * open file descriptions, and with these their OFD locks. To keep a file so is a system call; to store it with the manager costs the
 * manager a comparison with all that it has.
 *
 * The queue is a datagram socket that is connected to itself, so it has one descriptor and no end that a death closes. A message has up
 * to MAX_PASSED descriptors and the name of each. Messages leave at the head only. So a file that is not to be kept any more makes its
 * entry stale, and a turn brings the head's other files to the tail before it removes the head. A process that dies in between leaves
 * entries twice: for each name the later one counts. A stale entry keeps its file open, so a turn comes soon.
 *
 * Files only: before Linux 6.10 a socket in flight would have every close of a UNIX socket search all queues.
 */
import { constants } from 'node:os';
import { logger } from '../log/log.ts';
import { now } from '../posix/clock.ts';
import { MAX_PASSED, posix, strerror } from '../posix/posix.ts';
import { kindOf, serialOf, StoredKind, type StoredName } from './names.ts';

const log = logger('locking.lock_daemon');
const { EAGAIN, EBADF } = constants.errno;

/** After a turn the next one waits for so many times as long. */
const REST = 100;
/** Until another attempt to send the rest, in milliseconds. */
const AGAIN_MS = 200;
/** The queue may have so many messages, and two more for each MAX_PASSED files, before they are merged. */
const MANY = 64;

/** The system calls and timers of the queue; each call returns 0 or more, or -errno. See posix.ts. */
export interface QueueLink {
  send(queue: number, names: Uint32Array, fds: Int32Array, count: number, isReplacement: boolean): number;
  peek(queue: number, isFirst: boolean, names: Uint32Array, fds: Int32Array | null): number;
  pop(queue: number): number;
  now(): number;
  setTimeout(callback: () => void, milliseconds: number): void;
}

const realLink: QueueLink = {
  send: (queue, names, fds, count, isReplacement) => posix.sendFiles(queue, names, fds, count, isReplacement),
  peek: (queue, isFirst, names, fds) => posix.peekFiles(queue, isFirst, names, fds),
  pop: (queue) => posix.popFiles(queue),
  now,
  setTimeout: (callback, milliseconds) => {
    if (milliseconds > 0) setTimeout(callback, milliseconds).unref();
    else setImmediate(callback);
  },
};

interface Message {
  readonly names: readonly StoredName[];
  /** How many of its entries are not stale. */
  live: number;
}

interface KeptFile {
  readonly fd: number;
  /** Null: it is not sent yet. */
  message: Message | null;
}

const names = new Uint32Array(MAX_PASSED);
const fds = new Int32Array(MAX_PASSED);

export class FilesInFlight {
  /** The queue's descriptor. */
  readonly queue: number;
  private readonly link: QueueLink;
  private readonly files = new Map<StoredName, KeptFile>();
  /** Names in {@link files} that are not sent yet. */
  private readonly unsent = new Set<StoredName>();
  private readonly messages: Message[] = [];
  /** Entries of all messages. */
  private entries = 0;
  /** No turn begins before. */
  private nextTurn = 0;
  private isTurnDue = false;
  private isRetryDue = false;
  private isReported = false;
  /** The highest serial number in the queue that the previous process or program image has left, stale or not; -1: none. */
  lastSerial = -1;
  /** Called when a later attempt has sent the last of the rest. */
  onSent: () => void = () => undefined;

  /**
   * @param queue of posix.createQueue
   * @param kept files that the previous process or program image has kept: descriptors by name
   */
  constructor(queue: number, kept: Iterable<readonly [StoredName, number]> = [], link = realLink) {
    this.queue = queue;
    this.link = link;
    for (const [name, fd] of kept) this.files.set(name, { fd, message: null });
    this.read();
    this.sendUnsent();
    // Clients have waited for this process.
    this.nextTurn = link.now() + AGAIN_MS;
    if (this.isUntidy) this.turnSoon();
  }

  get count(): number {
    return this.files.size;
  }

  /** How many files are not in the queue yet. */
  get unsentCount(): number {
    return this.unsent.size;
  }

  has(name: StoredName): boolean {
    return this.files.has(name) && !this.unsent.has(name);
  }

  /** Sends a file, later if the kernel does not take it. */
  keep(name: StoredName, fd: number): void {
    this.files.set(name, { fd, message: null });
    this.unsent.add(name);
    this.sendUnsent();
    if (this.isUntidy) this.turnSoon();
  }

  drop(name: StoredName): void {
    const kept = this.files.get(name);
    if (kept === undefined) return;
    this.files.delete(name);
    this.unsent.delete(name);
    if (kept.message === null) return;
    kept.message.live--;
    this.turnSoon();
  }

  /** Tries to send the rest. Returns whether all is sent. */
  flush(): boolean {
    this.sendUnsent();
    return this.unsent.size === 0;
  }

  /** Forgets all, before the queue is closed: a turn that is due would take messages from whatever has its number then. */
  end(): void {
    this.files.clear();
    this.unsent.clear();
    this.messages.length = this.entries = 0;
    this.onSent = () => undefined;
  }

  /** There are stale entries, or far more messages than the files need. */
  private get isUntidy(): boolean {
    const live = this.files.size - this.unsent.size;
    return this.entries > live || this.messages.length > MANY + (2 * live) / MAX_PASSED;
  }

  /** Learns from the queue which files it has. */
  private read(): void {
    this.messages.length = this.entries = 0;
    for (const kept of this.files.values()) kept.message = null;
    try {
      for (const found of messagesOf(this.queue, this.link, null)) this.enter(Array.from(found));
    } catch (error) {
      log.error((error as Error).message);
    }
    for (const [name, { message }] of this.files) if (message === null) this.unsent.add(name);
  }

  /** Enters a message that is in the queue already. */
  private enter(names: readonly StoredName[]): void {
    const message = { names, live: 0 };
    for (const name of names) {
      this.place(name, message);
      if (kindOf(name) === StoredKind.FILE) this.lastSerial = Math.max(this.lastSerial, serialOf(name));
    }
    this.messages.push(message);
    this.entries += names.length;
  }

  private place(name: StoredName, message: Message): void {
    const kept = this.files.get(name);
    if (kept === undefined) return;
    if (kept.message !== null) kept.message.live--;
    kept.message = message;
    message.live++;
  }

  private sendUnsent(): void {
    for (const name of this.unsent) {
      let status = this.send([name], false);
      if (status === -EAGAIN) {
        this.turn(true);
        status = this.send([name], false);
      }
      // A defect: a closed descriptor cannot be sent later either, and must not hold back the ones after it.
      if (status === -EBADF) this.drop(name);
      else if (status < 0) {
        this.report(status);
        this.retryLater();
        return;
      }
    }
    this.isReported = false;
  }

  private report(status: number): void {
    if (!this.isReported)
      log.warn(`Cannot keep ${this.unsent.size} locked files beyond a death, will try again: ${strerror(status)}`);
    this.isReported = true;
  }

  /** Sends one message. */
  private send(sent: readonly StoredName[], isReplacement: boolean): number {
    for (const [index, name] of sent.entries()) {
      names[index] = name;
      fds[index] = this.files.get(name)?.fd ?? -1;
    }
    const status = this.link.send(this.queue, names, fds, sent.length, isReplacement);
    if (status < 0) return status;
    const message = { names: sent, live: 0 };
    for (const name of sent) {
      this.place(name, message);
      this.unsent.delete(name);
    }
    this.messages.push(message);
    this.entries += sent.length;
    return status;
  }

  private turnSoon(): void {
    if (this.isTurnDue) return;
    this.isTurnDue = true;
    this.link.setTimeout(
      () => {
        this.isTurnDue = false;
        this.turn();
        if (this.isUntidy) this.turnSoon();
      },
      Math.ceil(Math.max(0, this.nextTurn - this.link.now())),
    );
  }

  private retryLater(): void {
    if (this.isRetryDue) return;
    this.isRetryDue = true;
    this.link.setTimeout(() => {
      this.isRetryDue = false;
      if (this.flush()) this.onSent();
    }, AGAIN_MS);
  }

  /** Removes stale entries and merges messages, of which it visits each once at most; without need, too, if it is to make room. */
  private turn(makesRoom = false): void {
    const begun = this.link.now();
    for (let left = this.messages.length; left > 0 && (makesRoom || this.isUntidy);) {
      const moved = this.turnHeads(left);
      if (moved === 0) break;
      left -= moved;
    }
    const ended = this.link.now();
    this.nextTurn = Math.max(this.nextTurn, ended + REST * (ended - begun));
  }

  /** Removes some messages at the head, and brings their files to the tail. Returns how many, at most `limit`. */
  private turnHeads(limit: number): number {
    const live: StoredName[] = [];
    let count = 0;
    for (const message of this.messages) {
      if (count === limit || live.length + message.live > MAX_PASSED) break;
      // If all are stale so far, that may be all there is to remove.
      if (count > 0 && live.length === 0 && message.live > 0) break;
      count++;
      if (message.live === 0) continue;
      for (const name of message.names) if (this.files.get(name)?.message === message) live.push(name);
    }
    const status = live.length > 0 ? this.send(live, true) : 0;
    if (status < 0) return this.notTurned(live, status);
    for (const { names: gone } of this.messages.splice(0, count)) {
      if (this.link.pop(this.queue) < 0) {
        log.error('The queue of locked files is not what it should be, and is read again');
        this.read();
        return 0;
      }
      this.entries -= gone.length;
    }
    return count;
  }

  private notTurned(live: readonly StoredName[], status: number): number {
    // As in sendUnsent.
    if (status === -EBADF) for (const name of live) if (this.send([name], true) === -EBADF) this.drop(name);
    this.nextTurn = this.link.now() + AGAIN_MS;
    return 0;
  }
}

/**
 * Opens files in the queues that a process has left which died. Of a name that is there several times, the last one counts.
 *
 * @param wanted names of the files; others stay in their queue alone
 * @returns descriptors by name; -1 for a file that is there, and cannot be opened at present
 * @throws Error when a queue cannot be read
 */
export function filesIn(queues: Iterable<number>, wanted: ReadonlySet<StoredName>): Map<StoredName, number> {
  const files = new Map<StoredName, number>();
  const opened = new Int32Array(MAX_PASSED);
  for (const queue of queues) {
    for (const found of messagesOf(queue, realLink, opened)) {
      for (const [index, name] of found.entries()) {
        const fd = opened[index] ?? -1;
        const before = files.get(name) ?? -1;
        const isWanted = kindOf(name) === StoredKind.FILE && wanted.has(name);
        if (isWanted) files.set(name, fd < 0 ? before : fd);
        const surplus = isWanted ? before : fd;
        if (fd >= 0 && surplus >= 0) posix.close(surplus);
      }
    }
  }
  return files;
}

/** Empties a queue that a process has left. */
export function discardQueue(queue: number): void {
  while (posix.popFiles(queue) >= 0) continue;
}

/** The words of each message, valid until the next one is asked for. @throws Error when the queue cannot be read */
function* messagesOf(queue: number, link: QueueLink, opened: Int32Array | null): Generator<Uint32Array> {
  const words = new Uint32Array(MAX_PASSED);
  for (let isFirst = true; ; isFirst = false) {
    const count = link.peek(queue, isFirst, words, opened);
    if (count === -EAGAIN) return;
    if (count < 0) throw new Error(`Cannot read the queue of locked files: ${strerror(count)}`);
    yield words.subarray(0, count);
  }
}
