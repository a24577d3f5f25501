/**
 * Descriptors that outlive this process. Files are kept in flight (in-flight.ts). All others, and the queue of files, are stored with the
 * service manager, which passes them to the next process. One datagram stores a descriptor, even if the sender dies at once. The manager
 * drops it without a reply when its store is full: see manager.ts.
 *
 * No call waits for the manager, whose queue may be full. The store sends the rest later, in order; a descriptor that is not sent yet
 * would not outlive this process.
 */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { logger } from '../log/log.ts';
import { posix, strerror } from '../posix/posix.ts';
import type { FilesInFlight } from './in-flight.ts';
import { formatName, kindOf, serialOf, StoredKind, storedName, type StoredName } from './names.ts';
import { usedPlaces } from './record.ts';

const log = logger('locking.lock_daemon');
const { EAGAIN, EBADF } = constants.errno;

/** Until the next attempt to send the rest, in milliseconds: doubled while the manager takes none. */
const AGAIN_MS = 2;
const MAX_AGAIN_MS = 200;

/** The system calls and timers of the store. `connect` returns a descriptor or -errno, `send` 0 or -errno. */
export interface ManagerLink {
  connect(path: ByteString): number;
  send(socket: number, text: string, fd: number, milliseconds: number): number;
  close(fd: number): void;
  setTimeout(callback: () => void, milliseconds: number): void;
}

const realLink: ManagerLink = {
  connect: (path) => posix.connectManager(path),
  send: (socket, text, fd, milliseconds) => posix.sendManager(socket, text, fd, milliseconds),
  close: (fd) => posix.close(fd),
  setTimeout: (callback, milliseconds) => {
    setTimeout(callback, milliseconds).unref();
  },
};

/** In a descriptor's word: it is in the store or the queue, or to be sent there. */
const KEPT = 0x8000_0000;

/** The name in a descriptor's word; 0: none. */
export function nameIn(word: number): StoredName {
  return word & ~KEPT;
}

export class DescriptorStore {
  private readonly path: ByteString;
  private readonly link: ManagerLink;
  private files: FilesInFlight | null = null;
  private socket = -1;
  /** By descriptor: its name and {@link KEPT}. */
  private words: Uint32Array;
  private readonly used = new Set<StoredName>();
  private keptCount = 0;
  /** Serial number of the next name. */
  nextSerial = 0;
  /** By name, in the order of sending: the descriptor to be stored, or -1 for a removal. */
  private readonly unsent = new Map<StoredName, number>();
  /** Those that are sent again, and that the manager may have still. */
  private readonly again = new Set<StoredName>();
  private delay = AGAIN_MS;
  private isRetryDue = false;
  /** Nothing is stored until {@link storeAgain}. */
  private isEmptied = false;
  /** Counts stores and removals. */
  changes = 0;
  /** Called after {@link keep} has stored a descriptor, and after a retry has sent the last of the rest. */
  onStored: () => void = () => undefined;

  /**
   * @param path of the manager's socket
   * @param words a word for each descriptor, with the names of the previous process or program image
   */
  constructor(path: ByteString, words: Uint32Array, link = realLink) {
    this.path = path;
    this.link = link;
    this.words = words;
    for (const fd of usedPlaces(words)) this.register(words[fd] ?? 0);
  }

  /** Descriptors that are stored with the manager or to be stored. */
  get count(): number {
    return this.keptCount;
  }

  /** All that are in use. */
  get names(): StoredName[] {
    return [...this.used];
  }

  /** Whether the kernel has taken all files so far. */
  get takesFiles(): boolean {
    return this.files?.unsentCount === 0;
  }

  /** How many files would not outlive this process: they are not in the queue yet, or that is not sent to the manager. */
  get unsentFiles(): number {
    const { files } = this;
    if (files === null) return 0;
    return this.isKept(files.queue) ? files.unsentCount : files.count;
  }

  /** Keeps files by these from now on, and stores their queue. */
  keepFilesBy(files: FilesInFlight): void {
    this.files = files;
    // A name of a stale entry must not be given again: the stale entry would count until the new file is sent.
    this.nextSerial = Math.max(this.nextSerial, files.lastSerial + 1);
    this.keep(files.queue, StoredKind.QUEUE);
  }

  /** Files that are kept: their names and descriptors. */
  *keptFiles(): Generator<readonly [StoredName, number]> {
    for (const [name, fd] of this.kept()) if (isFile(name)) yield [name, fd];
  }

  private *kept(): Generator<readonly [StoredName, number]> {
    for (const fd of usedPlaces(this.words)) {
      const word = this.words[fd] ?? 0;
      if (word >= KEPT) yield [nameIn(word), fd];
    }
  }

  /** The queue of files; -1 when there is none. */
  get queue(): number {
    return this.files?.queue ?? -1;
  }

  /** How many of {@link count} are not sent yet. */
  get unsentCount(): number {
    let count = 0;
    for (const fd of this.unsent.values()) if (fd >= 0) count++;
    return count;
  }

  /** Moves to another table with the same content. */
  useWords(words: Uint32Array): void {
    this.words = words;
  }

  hasWords(words: Uint32Array): boolean {
    return this.words === words;
  }

  /** The descriptor's name; 0: none. */
  nameOf(fd: number): StoredName {
    return nameIn(this.words[fd] ?? 0);
  }

  /** Whether it has been sent to the manager, which may still have had no room for it, or of a file, to the queue. */
  isKept(fd: number): boolean {
    const word = this.words[fd] ?? 0;
    const name = nameIn(word);
    return word >= KEPT && (isFile(name) ? this.files?.has(name) === true : !this.unsent.has(name));
  }

  /** The descriptor's name, a new one if it has none. 0 when the descriptor's number is beyond the table. */
  nameFor(fd: number, kind: StoredKind): StoredName {
    const known = this.nameOf(fd);
    if (known !== 0 || fd < 0 || fd >= this.words.length) return known;
    const name = this.unusedName(kind);
    this.words[fd] = name;
    this.used.add(name);
    return name;
  }

  /** Enters a descriptor that the previous process has left to this one. False when its number is beyond the table. */
  adopt(fd: number, name: StoredName): boolean {
    if (fd >= this.words.length) return false;
    this.words[fd] = (name | KEPT) >>> 0;
    this.register(this.words[fd] ?? 0);
    return true;
  }

  /** Stores a descriptor, later if the manager's queue is full. Returns its name; 0 when its number is beyond the table. */
  keep(fd: number, kind: StoredKind): StoredName {
    const name = this.nameFor(fd, kind);
    if (name === 0 || (this.words[fd] ?? 0) >= KEPT) return name;
    this.words[fd] = (name | KEPT) >>> 0;
    if (isFile(name)) {
      this.files?.keep(name, fd);
      return name;
    }
    this.keptCount++;
    if (this.isEmptied) return name;
    this.post(name, fd);
    this.onStored();
    return name;
  }

  /** As {@link keep}, but ahead of the unsent ones, and with a wait of so many milliseconds. Returns whether it was sent. */
  keepNow(fd: number, kind: StoredKind, patience: number): boolean {
    if (this.isKept(fd)) return true;
    const name = this.nameFor(fd, kind);
    if (name === 0 || this.isEmptied) return false;
    const isNew = (this.words[fd] ?? 0) < KEPT;
    if (isNew) this.keptCount++;
    this.words[fd] = (name | KEPT) >>> 0;
    this.changes++;
    if (this.transmit(name, fd, patience)) this.unsent.delete(name);
    else {
      this.unsent.set(name, fd);
      this.retryLater();
    }
    this.onStored();
    return this.isKept(fd);
  }

  /** Removes a descriptor from the store, and its name. It may still be open, or just have been closed. */
  drop(fd: number): void {
    const word = this.words[fd] ?? 0;
    if (word === 0) return;
    const name = nameIn(word);
    this.words[fd] = 0;
    this.used.delete(name);
    if (word < KEPT) return;
    if (!isFile(name)) this.keptCount--;
    this.remove(name);
  }

  /** Removes a descriptor from the store, which keeps its name. */
  leaveOut(fd: number): void {
    const word = this.words[fd] ?? 0;
    const name = nameIn(word);
    if (word < KEPT || isFile(name)) return;
    this.words[fd] = name;
    this.keptCount--;
    this.remove(name);
  }

  /** Removes a name from the store that no open descriptor has. */
  remove(name: StoredName): void {
    if (isFile(name)) {
      this.files?.drop(name);
      return;
    }
    const wasThere = this.again.delete(name);
    if ((this.unsent.get(name) ?? -1) >= 0 && !wasThere) this.unsent.delete(name);
    else this.post(name, -1);
  }

  /** Removes all descriptors from the store until {@link storeAgain}. Their names stay, and files stay in the queue. */
  empty(): void {
    this.isEmptied = true;
    for (const [name] of this.kept()) if (!isFile(name)) this.remove(name);
  }

  /** Removes all descriptors from the store, and closes the queue of files. */
  end(): void {
    const { files } = this;
    if (files !== null) {
      this.drop(files.queue);
      files.end();
      this.link.close(files.queue);
      this.files = null;
    }
    this.empty();
  }

  /** Sends all descriptors again. The manager ignores those that it has. */
  storeAgain(): void {
    this.isEmptied = false;
    const all = [...this.kept()].filter(([name]) => !isFile(name) && (this.unsent.get(name) ?? -1) < 0);
    // There may be no room for all, and clients are nothing without the record and the queue.
    for (const areClients of [false, true]) {
      for (const [name, fd] of all) {
        if (isClient(name) !== areClients) continue;
        this.again.add(name);
        this.post(name, fd);
      }
    }
  }

  /** Tries to send the rest. Returns whether all is sent. */
  flush(): boolean {
    this.sendUnsent();
    return this.files?.flush() !== false && this.unsent.size === 0;
  }

  private register(word: number): void {
    const name = nameIn(word);
    this.used.add(name);
    if (word >= KEPT && !isFile(name)) this.keptCount++;
    this.nextSerial = Math.max(this.nextSerial, serialOf(name) + 1);
  }

  private unusedName(kind: StoredKind): StoredName {
    let name: StoredName;
    do name = storedName(kind, this.nextSerial++);
    while (this.used.has(name));
    return name;
  }

  /** Sends it, or queues it behind the unsent ones. */
  private post(name: StoredName, fd: number): void {
    this.changes++;
    if (this.unsent.size === 0 && this.transmit(name, fd, 0)) return;
    this.unsent.set(name, fd);
    this.retryLater();
  }

  private transmit(name: StoredName, fd: number, patience: number): boolean {
    const text = fd < 0 ? 'FDSTOREREMOVE=1' : 'FDSTORE=1\nFDPOLL=0';
    const status = this.send(`${text}\nFDNAME=${formatName(name)}`, fd, patience);
    if (status >= 0) this.again.delete(name);
    if (status < 0 && status !== -EAGAIN && this.unsent.size === 0)
      log.warn(`Cannot reach the service manager's descriptor store, will try again: ${strerror(status)}`);
    // A defect: a closed descriptor cannot be sent later either, and must not hold back the ones after it.
    return status >= 0 || (status === -EBADF && fd >= 0);
  }

  private send(text: string, fd: number, patience: number): number {
    if (this.socket < 0) this.socket = this.link.connect(this.path);
    if (this.socket < 0) return this.socket;
    const status = this.link.send(this.socket, text, fd, patience);
    if (status < 0 && status !== -EAGAIN) {
      // The manager may have bound a new socket.
      this.link.close(this.socket);
      this.socket = -1;
    }
    return status;
  }

  /** Returns whether the manager took any. */
  private sendUnsent(): boolean {
    const { size } = this.unsent;
    for (const [name, fd] of this.unsent) {
      if (!this.transmit(name, fd, 0)) break;
      this.unsent.delete(name);
    }
    return this.unsent.size < size;
  }

  private retryLater(): void {
    if (this.isRetryDue) return;
    this.isRetryDue = true;
    this.link.setTimeout(() => {
      this.isRetryDue = false;
      // The queue has room for a few datagrams only. If it moves, fill it again soon.
      const moves = this.sendUnsent();
      this.delay = moves ? AGAIN_MS : Math.min(this.delay * 2, MAX_AGAIN_MS);
      if (this.unsent.size > 0) this.retryLater();
      else this.onStored();
    }, this.delay);
  }
}

function isClient(name: StoredName): boolean {
  return kindOf(name) === StoredKind.LOCK_CLIENT || kindOf(name) === StoredKind.ADMIN_CLIENT;
}

function isFile(name: StoredName): boolean {
  return kindOf(name) === StoredKind.FILE;
}
