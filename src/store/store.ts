/**
 * The client of the service manager's descriptor store: what is in there outlives this process, and is passed to the next one. To put
 * something in takes one datagram, after which it is there whatever becomes of the sender, if the manager has room for it; whether
 * it has is another question: see manager.ts.
 *
 * The manager may be busy, and then its queue is full. Nobody here waits for it for longer than a moment: what could not be sent is
 * sent later, in order, and until then would not outlive this process.
 */
import os from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { logger } from '../log/log.ts';
import { posix, strerror } from '../posix/posix.ts';
import { formatName, serialOf, type StoredKind, storedName, type StoredName } from './names.ts';

const log = logger('locking.lock_daemon');
const { EAGAIN, EBADF } = os.constants.errno;

/** For how long a call waits for the manager, in milliseconds; and for how long afterwards none does. */
const PATIENCE_MS = 20;
const IMPATIENCE_MS = 1000;
/** The same where everything depends on it. */
const URGENT_MS = 200;
/** When what could not be sent is sent again, in milliseconds. */
const AGAIN_MS = 200;
const MOVING_MS = 2;

/** What the store needs of the world. All functions return a descriptor, 0 or -errno. */
export interface ManagerLink {
  connect(path: ByteString): number;
  send(socket: number, text: string, fd: number, milliseconds: number): number;
  close(fd: number): void;
  now(): number;
  setTimeout(callback: () => void, milliseconds: number): void;
}

const realLink: ManagerLink = {
  connect: (path) => posix.connectManager(path),
  send: (socket, text, fd, milliseconds) => posix.sendManager(socket, text, fd, milliseconds),
  close: (fd) => posix.close(fd),
  now: () => performance.now(),
  setTimeout: (callback, milliseconds) => {
    setTimeout(callback, milliseconds).unref();
  },
};

/** In the word of a name: the descriptor is in the store, or on its way there. */
const KEPT = 0x8000_0000;

/** The name in a word of the table that a DescriptorStore has; 0 when there is none. */
export function nameIn(word: number): StoredName {
  return word & ~KEPT;
}

export class DescriptorStore {
  private readonly path: ByteString;
  private readonly link: ManagerLink;
  private socket = -1;
  /** By descriptor: its name, and {@link KEPT}. */
  private words: Uint32Array;
  private readonly used = new Set<StoredName>();
  private keptCount = 0;
  /** Names are given from here on. */
  nextSerial = 0;
  /** What could not be sent, in order: of a name, the descriptor to be stored, or -1 for its removal. */
  private readonly unsent = new Map<StoredName, number>();
  /** What is to be put in again, and may be there still. */
  private readonly again = new Set<StoredName>();
  private impatientUntil = 0;
  private isRetryDue = false;
  /** Nothing is put in until {@link storeAgain}. */
  private isEmptied = false;
  /** How often something has been put in or taken out. */
  changes = 0;
  /** Something has been put in. */
  onStored: () => void = () => undefined;

  /**
   * @param path of the manager's socket
   * @param words has room for a name for each descriptor, and those that were given before
   */
  constructor(path: ByteString, words: Uint32Array, link = realLink) {
    this.path = path;
    this.link = link;
    this.words = words;
    for (const word of words) if (word !== 0) this.register(word);
  }

  /** How many are to be in the store. */
  get count(): number {
    return this.keptCount;
  }

  /** How many of these could not be put in yet. */
  get unsentCount(): number {
    let count = 0;
    for (const fd of this.unsent.values()) if (fd >= 0) count++;
    return count;
  }

  /** The table is elsewhere from now on, with the same in it. */
  useWords(words: Uint32Array): void {
    this.words = words;
  }

  hasWords(words: Uint32Array): boolean {
    return this.words === words;
  }

  /** The name of what a descriptor stands for; 0 when it has none. */
  nameOf(fd: number): StoredName {
    return nameIn(this.words[fd] ?? 0);
  }

  /** Whether a name stands for a descriptor that is known here. */
  isUsed(name: StoredName): boolean {
    return this.used.has(name);
  }

  /** Whether it is in the store, as far as can be told without asking the manager. */
  isKept(fd: number): boolean {
    const word = this.words[fd] ?? 0;
    return word >= KEPT && !this.unsent.has(nameIn(word));
  }

  /** Gives a name to a descriptor. 0 when it has too high a number for that. */
  nameFor(fd: number, kind: StoredKind): StoredName {
    const known = this.nameOf(fd);
    if (known !== 0 || fd < 0 || fd >= this.words.length) return known;
    const name = this.unusedName(kind);
    this.words[fd] = name;
    this.used.add(name);
    return name;
  }

  /** A descriptor was in the store under that name before this process began. False when it has too high a number. */
  adopt(fd: number, name: StoredName): boolean {
    if (fd >= this.words.length) return false;
    this.words[fd] = (name | KEPT) >>> 0;
    this.register(this.words[fd] ?? 0);
    return true;
  }

  /** Puts a descriptor in, or will when the manager takes it. Its name; 0 when it has too high a number for that. */
  keep(fd: number, kind: StoredKind): StoredName {
    const name = this.nameFor(fd, kind);
    if (name === 0 || (this.words[fd] ?? 0) >= KEPT) return name;
    this.words[fd] = (name | KEPT) >>> 0;
    this.keptCount++;
    if (this.isEmptied) return name;
    this.post(name, fd);
    this.onStored();
    return name;
  }

  /** As {@link keep}, before anything that could not be sent yet, and for as long as the manager may be waited for. Whether it is there. */
  keepNow(fd: number, kind: StoredKind): boolean {
    if (this.isKept(fd)) return true;
    const name = this.nameFor(fd, kind);
    if (name === 0 || this.isEmptied) return false;
    const isNew = (this.words[fd] ?? 0) < KEPT;
    if (isNew) this.keptCount++;
    this.words[fd] = (name | KEPT) >>> 0;
    this.changes++;
    if (this.transmit(name, fd, URGENT_MS)) this.unsent.delete(name);
    else {
      this.unsent.set(name, fd);
      this.retryLater();
    }
    return this.isKept(fd);
  }

  /** Takes a descriptor out, which is still open or just closed, and its name from it. */
  drop(fd: number): void {
    const word = this.words[fd] ?? 0;
    if (word === 0) return;
    const name = nameIn(word);
    this.words[fd] = 0;
    this.used.delete(name);
    if (word < KEPT) return;
    this.keptCount--;
    this.remove(name);
  }

  /** Takes out what has no descriptor here. */
  remove(name: StoredName): void {
    const wasThere = this.again.delete(name);
    if ((this.unsent.get(name) ?? -1) >= 0 && !wasThere) this.unsent.delete(name);
    else this.post(name, -1);
  }

  /** Takes everything out, for the time being: {@link storeAgain} puts it in again. */
  empty(): void {
    this.isEmptied = true;
    for (const word of this.words) if (word >= KEPT) this.remove(nameIn(word));
  }

  /** Puts all in again: what is there already stays as it is. */
  storeAgain(): void {
    this.isEmptied = false;
    for (const [fd, word] of this.words.entries()) {
      const name = nameIn(word);
      if (word < KEPT || (this.unsent.get(name) ?? -1) >= 0) continue;
      this.again.add(name);
      this.post(name, fd);
    }
  }

  /** All that could be sent is. */
  flush(): boolean {
    this.sendUnsent();
    return this.unsent.size === 0;
  }

  /** Has a descriptor closed once the manager has processed all that was sent before. 0 or -errno. */
  sendBarrier(fd: number): number {
    return this.flush() ? this.send('BARRIER=1', fd, 0) : -EAGAIN;
  }

  private register(word: number): void {
    const name = nameIn(word);
    this.used.add(name);
    if (word >= KEPT) this.keptCount++;
    this.nextSerial = Math.max(this.nextSerial, serialOf(name) + 1);
  }

  private unusedName(kind: StoredKind): StoredName {
    let name: StoredName;
    do name = storedName(kind, this.nextSerial++);
    while (this.used.has(name));
    return name;
  }

  /** Sends it, or leaves it for later, behind what was left before. */
  private post(name: StoredName, fd: number): void {
    this.changes++;
    const isImpatient = this.link.now() < this.impatientUntil;
    if (this.unsent.size > 0 && !isImpatient) this.sendUnsent();
    if (this.unsent.size === 0 && this.transmit(name, fd, isImpatient ? 0 : PATIENCE_MS)) return;
    this.unsent.set(name, fd);
    this.impatientUntil = this.link.now() + IMPATIENCE_MS;
    this.retryLater();
  }

  private transmit(name: StoredName, fd: number, patience: number): boolean {
    const text = fd < 0 ? 'FDSTOREREMOVE=1' : 'FDSTORE=1\nFDPOLL=0';
    const status = this.send(`${text}\nFDNAME=${formatName(name)}`, fd, patience);
    if (status >= 0) this.again.delete(name);
    if (status < 0 && status !== -EAGAIN && this.unsent.size === 0)
      log.warn(`The service manager's descriptor store cannot be reached, and is tried again: ${strerror(status)}`);
    // A defect: what is closed cannot be sent later either, and must not keep back all that comes after it.
    return status >= 0 || (status === -EBADF && fd >= 0);
  }

  private send(text: string, fd: number, patience: number): number {
    if (this.socket < 0) this.socket = this.link.connect(this.path);
    if (this.socket < 0) return this.socket;
    const status = this.link.send(this.socket, text, fd, patience);
    if (status < 0 && status !== -EAGAIN) {
      // The manager may have another socket by now.
      this.link.close(this.socket);
      this.socket = -1;
    }
    return status;
  }

  /** Whether the manager has taken any. */
  private sendUnsent(): boolean {
    const { size } = this.unsent;
    for (const [name, fd] of this.unsent) {
      if (!this.transmit(name, fd, 0)) break;
      this.unsent.delete(name);
    }
    return this.unsent.size < size;
  }

  private retryLater(milliseconds = AGAIN_MS): void {
    if (this.isRetryDue) return;
    this.isRetryDue = true;
    this.link.setTimeout(() => {
      this.isRetryDue = false;
      // A queue has room for a few only: one that moves is filled again at once.
      const moves = this.sendUnsent();
      if (this.unsent.size > 0) this.retryLater(moves ? MOVING_MS : AGAIN_MS);
      else this.onStored();
    }, milliseconds);
  }
}
