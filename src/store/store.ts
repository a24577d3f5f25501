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
const { EAGAIN } = os.constants.errno;

/** For how long a call waits for the manager, in milliseconds; and for how long afterwards none does. */
const PATIENCE_MS = 20;
const IMPATIENCE_MS = 1000;
/** When what could not be sent is sent again, in milliseconds. */
const AGAIN_MS = 200;

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

export class DescriptorStore {
  private readonly path: ByteString;
  private readonly link: ManagerLink;
  private socket = -1;
  /** By descriptor: the record's. */
  private names: Uint32Array;
  /** All that are in the store or on their way there. */
  private readonly used = new Set<StoredName>();
  private serial = 0;
  /** What could not be sent, in order: of a name, the descriptor to be stored, or -1 for its removal. */
  private readonly unsent = new Map<StoredName, number>();
  private impatientUntil = 0;
  private isRetryDue = false;
  /** How often something has been put in or taken out. */
  changes = 0;
  /** Something has been put in. */
  onStored: () => void = () => undefined;

  /**
   * @param path of the manager's socket
   * @param names has room for a name for each descriptor; those in it are in the store already
   */
  constructor(path: ByteString, names: Uint32Array, link = realLink) {
    this.path = path;
    this.link = link;
    this.names = names;
    for (const name of names) if (name !== 0) this.adopted(name);
  }

  /** How many should be in the store. */
  get count(): number {
    let count = this.used.size;
    for (const fd of this.unsent.values()) if (fd >= 0) count--;
    return count;
  }

  /** How many could not be put in yet. */
  get missing(): number {
    return this.used.size - this.count;
  }

  /** The table is elsewhere from now on, with the same in it. */
  useNames(names: Uint32Array): void {
    this.names = names;
  }

  /** The name of what a descriptor stands for; 0 when it is not to be kept. */
  nameOf(fd: number): StoredName {
    return this.names[fd] ?? 0;
  }

  /** Whether it is in the store. */
  isKept(fd: number): boolean {
    const name = this.nameOf(fd);
    return name !== 0 && !this.unsent.has(name);
  }

  /** Puts a descriptor in, or will when the manager takes it. Its name; 0 when it has too high a number for that. */
  keep(fd: number, kind: StoredKind): StoredName {
    const known = this.nameOf(fd);
    if (known !== 0 || fd >= this.names.length) return known;
    const name = this.unusedName(kind);
    this.names[fd] = name;
    this.used.add(name);
    this.post(name, fd);
    this.onStored();
    return name;
  }

  /** Takes a descriptor out, which is still open or just closed. */
  drop(fd: number): void {
    const name = this.nameOf(fd);
    if (name === 0) return;
    this.names[fd] = 0;
    this.remove(name);
  }

  /** Takes out what nothing is known of. */
  remove(name: StoredName): void {
    this.used.delete(name);
    if ((this.unsent.get(name) ?? -1) >= 0) this.unsent.delete(name);
    else this.post(name, -1);
  }

  /** Takes everything out. */
  empty(): void {
    for (let fd = 0; fd < this.names.length; fd++) if (this.names[fd] !== 0) this.drop(fd);
  }

  /** Puts all in again: what is there already stays as it is. */
  storeAgain(): void {
    for (const [fd, name] of this.names.entries()) if (name !== 0 && !this.unsent.has(name)) this.post(name, fd);
  }

  /** Has a descriptor closed once the manager has processed all that was sent before. 0 or -errno. */
  sendBarrier(fd: number): number {
    this.sendUnsent();
    return this.unsent.size > 0 ? -EAGAIN : this.send('BARRIER=1', fd, 0);
  }

  private adopted(name: StoredName): void {
    this.used.add(name);
    this.serial = Math.max(this.serial, serialOf(name) + 1);
  }

  private unusedName(kind: StoredKind): StoredName {
    let name: StoredName;
    do name = storedName(kind, this.serial++);
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
    if (status < 0 && status !== -EAGAIN && this.unsent.size === 0)
      log.warn(`The service manager's descriptor store cannot be reached, and is tried again: ${strerror(status)}`);
    return status >= 0;
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

  private sendUnsent(): void {
    for (const [name, fd] of this.unsent) {
      if (!this.transmit(name, fd, 0)) return;
      this.unsent.delete(name);
    }
  }

  private retryLater(): void {
    if (this.isRetryDue) return;
    this.isRetryDue = true;
    this.link.setTimeout(() => {
      this.isRetryDue = false;
      this.sendUnsent();
      if (this.unsent.size > 0) this.retryLater();
      else this.onStored();
    }, AGAIN_MS);
  }
}
