/**
 * A server: its listening sockets, its clients and their limit. The daemon has two, which the admin program and the state document
 * call `virtlockd` and `admin`.
 */
import type { XdrReader, XdrWriter } from '../../xdr/codec.ts';
import type { Dialect } from '../libvirt/dialect.ts';
import { logger, logging } from '../log/log.ts';
import { now } from '../posix/clock.ts';
import { posix, strerror } from '../posix/posix.ts';
import { descriptorLimit } from '../proc/limits.ts';
import { Connection, type ConnectionHost, type Peer } from './connection.ts';
import { type BoundProgram, Dispatcher } from './dispatch.ts';
import type { Acceptor, Poller } from './poller.ts';
import type { Waiting } from './waiting.ts';

const log = logger('rpc.netserver');

/** The interval between two looks for free descriptors, when they have run out. */
const EXHAUSTED_PAUSE_MS = 500;
/** For how long there must be room before newcomers count as let in again: where many wait, each one's end lets in the next. */
const ROOM_MS = 1000;
/** For how long after a pause a newcomer may be one that has waited in the backlog, in milliseconds. */
const DOUBTFUL_MS = 1000;
/** Descriptors that accept leaves unused, for locks, a re-execution and the admin socket; and the part of a small limit that they are. */
const DESCRIPTOR_RESERVE = 64;
const RESERVED_PART = 1 / 8;

export interface Listener {
  readonly fd: number;
  /** Where it is bound. */
  readonly path: string | null;
  /** Whether the daemon unlinks it at its end: not a socket of systemd's. */
  readonly unlink: boolean;
}

interface ServerOptions<C> {
  readonly name: string;
  readonly poller: Poller;
  readonly programs: readonly BoundProgram<C>[];
  readonly dialect: Dialect;
  readonly maxClients: number;
  readonly maxAnonymousClients: number;
  /** The id of the next client. Ids start at 1 and are never used again. */
  readonly nextClientId: number;
  /** See {@link ConnectionHost.maxUsefulMessage}. */
  readonly maxUsefulMessage: number;
  /** The process's limit on descriptors at its start. */
  readonly descriptorLimit: number;
  /** The part of the reserve of descriptors that its own newcomers may not take. */
  readonly sparedReserve: number;
  /** See {@link ConnectionHost.open}. */
  open(connection: Connection<C>): C;
  /** When the process with this pid started; only where the kernel cannot identify a peer's process later. */
  startTimeOf?(pid: number): number | undefined;
  /** A client has connected: not called for adopted ones. */
  accepted?(connection: Connection<C>): void;
  /** A call has been served. Its reply is not sent yet. */
  served?(connection: Connection<C>): void;
  /** A connection has ended. Its socket is still open. */
  closed(connection: Connection<C>): void;
  /** The number of clients changed. */
  changed(): void;
}

export class Server<C> implements ConnectionHost<C>, Acceptor {
  readonly name: string;
  readonly poller: Poller;
  readonly maxUsefulMessage: number;
  readonly listeners: Listener[] = [];
  /** Only kept and reported, as by C: there are no workers. */
  priorityWorkers = 0;
  private readonly options: ServerOptions<C>;
  private readonly dispatcher: Dispatcher<C>;
  /** By id; in ascending order once none is to be adopted late. */
  private adopted = new Map<number, Connection<C>>();
  /**
   * Clients of the program before this one that are adopted when they call, or when there is time: after a restart every guest's
   * management waits, and most clients have nothing to say. Their states by descriptor, as they stand in the document.
   */
  private late = new Map<number, unknown>();
  private adoptState: ((state: unknown, fd: number) => void) | undefined;
  private limits: { maxClients: number; maxAnonymousClients: number };
  private nextId: number;
  private lastArrival = 0;
  private exhausted: NodeJS.Timeout | undefined;
  private descriptorLimit: number;
  /** The log says that newcomers wait. */
  private isReportedFull = false;
  private roomTimer: NodeJS.Timeout | undefined;
  private accepting = false;
  private isOpen = false;
  /** When accepting began, or went on after a pause. */
  private openedAt = now();

  constructor(options: ServerOptions<C>) {
    this.options = options;
    this.name = options.name;
    this.poller = options.poller;
    this.dispatcher = new Dispatcher(options.programs, options.dialect);
    this.maxUsefulMessage = options.maxUsefulMessage;
    this.limits = { maxClients: options.maxClients, maxAnonymousClients: options.maxAnonymousClients };
    this.nextId = options.nextClientId;
    this.descriptorLimit = options.descriptorLimit;
  }

  /** Adopts the late clients, of which there may be thousands. Returns all clients by id, in ascending order. */
  adoptAll(): ReadonlyMap<number, Connection<C>> {
    this.adoptLate(Infinity);
    return this.adopted;
  }

  /** A connection by id, but not one whose adoption is still deferred. */
  find(id: number): Connection<C> | undefined {
    return this.adopted.get(id);
  }

  /** A connection by id, which is adopted now if it is a late one. */
  findAny(id: number): Connection<C> | undefined {
    return this.adopted.get(id) ?? (this.late.size > 0 ? this.adoptAll().get(id) : undefined);
  }

  get clientCount(): number {
    return this.adopted.size + this.late.size;
  }

  get maxClients(): number {
    return this.limits.maxClients;
  }

  /** The most clients that may wait for authentication: only kept and reported, because there is none. */
  get maxAnonymousClients(): number {
    return this.limits.maxAnonymousClients;
  }

  get nextClientId(): number {
    return this.nextId;
  }

  /** Whether newcomers wait in the backlog, because of the limit or because descriptors ran out. */
  get isFull(): boolean {
    return this.exhausted !== undefined || this.clientCount >= this.limits.maxClients;
  }

  /** A lower limit disconnects no client: newcomers wait until enough have left. */
  setLimits(limits: { maxClients: number; maxAnonymousClients: number }): void {
    this.limits = limits;
    this.updateBudget();
  }

  addListener(listener: Listener): void {
    this.listeners.push(listener);
    this.poller.addListener(listener.fd, this);
  }

  /** Begins to accept, and to serve adopted clients. */
  start(): void {
    const connections = [...this.adopted.values()];
    const waiting = connections.filter(({ arrival }) => arrival > 0).sort((a, b) => a.arrival - b.arrival);
    this.lastArrival = waiting.at(-1)?.arrival ?? 0;
    // Calls that waited are made again in the order in which they came, before any that came later.
    for (const connection of new Set([...waiting, ...connections])) connection.start();
    this.resume();
  }

  /** Leaves newcomers in the backlog until {@link resume}. */
  suspend(): void {
    this.accepting = false;
    this.updateBudget();
  }

  resume(): void {
    this.accepting = true;
    this.updateBudget();
  }

  /**
   * Clients to be adopted late: their sockets hang on the inherited epoll already.
   *
   * @param late their states by descriptor
   * @param adopt reads such a state and adopts the client; does not throw
   */
  expect(late: Map<number, unknown>, adopt: (state: unknown, fd: number) => void): void {
    this.late = late;
    this.adoptState = adopt;
  }

  /** Adopts the late client behind a descriptor, if there is one. */
  adoptLateAt(fd: number): void {
    const state = this.late.get(fd);
    if (state === undefined) return;
    this.late.delete(fd);
    this.adoptState?.(state, fd);
  }

  /** Adopts up to `count` of the late clients. Whether there are more. */
  adoptLate(count: number): boolean {
    if (this.adoptState === undefined) return false;
    for (const fd of this.late.keys()) {
      if (count-- <= 0) return true;
      this.adoptLateAt(fd);
    }
    this.adoptState = undefined;
    // Some called before it was their turn.
    this.adopted = new Map([...this.adopted].sort(([a], [b]) => a - b));
    return false;
  }

  /** Adopts an open connection, which is served once it is started. */
  adopt(fd: number, id: number, peer: Peer, connectedAt: number): Connection<C> {
    if (this.adopted.has(id)) throw new Error(`two clients with id ${id}`);
    const connection = new Connection<C>(this, fd, id, peer, connectedAt);
    this.adopted.set(id, connection);
    this.nextId = Math.max(this.nextId, id + 1);
    return connection;
  }

  onAccept(fd: number, pid: number, uid: number, gid: number): void {
    if (fd < 0) {
      this.pause(strerror(fd));
      return;
    }
    if (uid !== process.geteuid?.()) {
      log.error(`${this.name}: peer with uid ${uid} (pid ${pid}) is not allowed to connect`);
      posix.close(fd);
      this.updateBudget();
      return;
    }
    const peer = { pid, uid, gid, ...this.startTimeOf(pid) };
    const connection = this.adopt(fd, this.nextId, peer, Math.floor(Date.now() / 1000));
    this.options.accepted?.(connection);
    connection.start();
    if (fd >= this.ceiling) this.pause(`descriptor ${fd} of ${this.descriptorLimit}`);
    else this.updateBudget();
    this.options.changed();
  }

  open(connection: Connection<C>): C {
    return this.options.open(connection);
  }

  nextArrival(): number {
    return ++this.lastArrival;
  }

  serve(connection: Connection<C>, reader: XdrReader, out: XdrWriter): Waiting | null {
    logging.caller = connection;
    try {
      const waiting = this.dispatcher.dispatch(connection, reader, out);
      this.options.served?.(connection);
      return waiting;
    } catch (error) {
      // For example an error that repeats a name of 4 MiB is too long to be sent. C closes then, too.
      log.error(`${this.name}: no reply to client ${connection.id}: ${String(error)}`);
      connection.close();
      return null;
    } finally {
      logging.caller = null;
    }
  }

  closed(connection: Connection<C>): void {
    this.adopted.delete(connection.id);
    this.updateBudget();
    this.options.closed(connection);
    this.options.changed();
  }

  /** Empty where the peer may have waited in the backlog: it may be gone, and another process may have its pid. */
  private startTimeOf(pid: number): { readonly startTime?: number } {
    if (this.options.startTimeOf === undefined || now() < this.openedAt + DOUBTFUL_MS) return {};
    const startTime = this.options.startTimeOf(pid);
    return startTime === undefined ? {} : { startTime };
  }

  /** Newcomers may not have descriptors from this number on. */
  private get ceiling(): number {
    const reserve = Math.min(DESCRIPTOR_RESERVE, Math.floor(this.descriptorLimit * RESERVED_PART));
    return this.descriptorLimit - Math.ceil(reserve * this.options.sparedReserve);
  }

  /** Accepts nobody until a descriptor is free that is not of the reserve. */
  private pause(reason: string): void {
    this.reportFull(`out of descriptors (${reason})`);
    clearTimeout(this.exhausted);
    this.exhausted = setTimeout(() => {
      // It may have been changed from outside.
      this.descriptorLimit = descriptorLimit();
      const free = this.lowestFreeDescriptor();
      if (free < 0 || free >= this.ceiling) {
        this.pause(`descriptor ${free} of ${this.descriptorLimit}`);
        return;
      }
      this.exhausted = undefined;
      this.updateBudget();
    }, EXHAUSTED_PAUSE_MS);
    this.updateBudget();
  }

  /** Or -errno. */
  private lowestFreeDescriptor(): number {
    const [listener] = this.listeners;
    const fd = listener === undefined ? 0 : posix.duplicate(listener.fd);
    if (listener !== undefined && fd >= 0) posix.close(fd);
    return fd;
  }

  private reportFull(reason: string): void {
    clearTimeout(this.roomTimer);
    this.roomTimer = undefined;
    if (this.isReportedFull) return;
    this.isReportedFull = true;
    log.warn(`${this.name}: newcomers are not let in any more: ${reason}`);
  }

  private reportRoom(): void {
    if (!this.isReportedFull) return;
    this.roomTimer ??= setTimeout(() => {
      this.roomTimer = undefined;
      this.isReportedFull = false;
      log.warn(`${this.name}: newcomers are let in again`);
    }, ROOM_MS).unref();
  }

  private updateBudget(): void {
    const open = this.accepting && this.exhausted === undefined;
    const budget = open ? Math.max(0, this.limits.maxClients - this.clientCount) : 0;
    if (budget > 0 && !this.isOpen) this.openedAt = now();
    this.isOpen = budget > 0;
    if (budget > 0) this.reportRoom();
    else if (open) this.reportFull(`${this.clientCount} of ${this.limits.maxClients} clients`);
    for (const { fd } of this.listeners) this.poller.setBudget(fd, budget, this.ceiling);
  }
}
