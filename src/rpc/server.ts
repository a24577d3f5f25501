/**
 * A server: its listening sockets, its clients, and how many of those it takes. The daemon has two, `virtlockd` and
 * `admin`, as the admin program and the state document name them.
 */
import type { XdrReader, XdrWriter } from '../../xdr/codec.ts';
import type { Dialect } from '../libvirt/dialect.ts';
import { logger } from '../log/log.ts';
import { posix, strerror } from '../posix/posix.ts';
import { Connection, type ConnectionHost, type Peer } from './connection.ts';
import { type BoundProgram, Dispatcher } from './dispatch.ts';
import type { Acceptor, Poller } from './poller.ts';
import type { Waiting } from './waiting.ts';

const log = logger('rpc.netserver');

/** For how long nothing is accepted after descriptors ran out, as in C. */
const EXHAUSTED_PAUSE_MS = 5000;
/** For how long after a pause those may be coming who had waited, in milliseconds. */
const DOUBTFUL_MS = 1000;
/** Descriptors that accept leaves unused, for locks and for whatever else a request needs. */
const DESCRIPTOR_RESERVE = 32;

/** A socket that is listened on. */
export interface Listener {
  readonly fd: number;
  /** Where it is bound; unlinked at the end when `unlink` says so (systemd's own sockets stay). */
  readonly path: string | null;
  readonly unlink: boolean;
}

export interface ServerOptions<C> {
  readonly name: string;
  readonly poller: Poller;
  readonly programs: readonly BoundProgram<C>[];
  readonly dialect: Dialect;
  readonly maxClients: number;
  readonly maxAnonymousClients: number;
  /** The id of the next client. Ids start at 1 and are never used again. */
  readonly nextClientId: number;
  /** Bytes of a message that its programs can make use of. */
  readonly maxUsefulMessage: number;
  /** The process's limit on descriptors. */
  readonly descriptorLimit: number;
  /** See {@link ConnectionHost.open}. */
  open(connection: Connection<C>): C;
  /** When the process with this pid started; only where the kernel will not tell which process a peer was. */
  startTimeOf?(pid: number): number | undefined;
  /** A client has come, and was not taken over from the program before. */
  accepted?(connection: Connection<C>): void;
  /** A call has been served, and its reply is not sent yet. */
  served?(): void;
  /** A connection has ended; its socket is open still. */
  closed(connection: Connection<C>): void;
  /** The number of clients changed. */
  changed(): void;
}

/** Clients of the program before this one that are not adopted yet: see restart/late-clients.ts. */
export interface LateClients {
  readonly size: number;
  /** Adopts the one behind a descriptor, if there is one. */
  adoptAt(fd: number): void;
  /** Adopts as many of those that are left. */
  adopt(count: number): void;
}

export class Server<C> implements ConnectionHost<C>, Acceptor {
  readonly name: string;
  readonly poller: Poller;
  readonly maxUsefulMessage: number;
  readonly listeners: Listener[] = [];
  /** There are no workers: the number is only kept and reported, as C does. */
  priorityWorkers = 0;
  private readonly options: ServerOptions<C>;
  private readonly dispatcher: Dispatcher<C>;
  /** By id, in the order they came. */
  private adopted = new Map<number, Connection<C>>();
  private late: LateClients | null = null;
  private limits: { maxClients: number; maxAnonymousClients: number };
  private nextId: number;
  private exhausted: NodeJS.Timeout | undefined;
  private accepting = false;
  private isOpen = false;
  /** When newcomers were last let in again who had waited. */
  private openedAt = performance.now();

  constructor(options: ServerOptions<C>) {
    this.options = options;
    this.name = options.name;
    this.poller = options.poller;
    this.dispatcher = new Dispatcher(options.programs, options.dialect);
    this.maxUsefulMessage = options.maxUsefulMessage;
    this.limits = { maxClients: options.maxClients, maxAnonymousClients: options.maxAnonymousClients };
    this.nextId = options.nextClientId;
  }

  /** Adopts those that are late: there may be thousands. All clients by id, in the order they came. */
  adoptAll(): ReadonlyMap<number, Connection<C>> {
    this.adoptLate(Infinity);
    return this.adopted;
  }

  /** One that has been adopted. */
  find(id: number): Connection<C> | undefined {
    return this.adopted.get(id);
  }

  get clientCount(): number {
    return this.adopted.size + (this.late?.size ?? 0);
  }

  get maxClients(): number {
    return this.limits.maxClients;
  }

  /** The most clients that may be waiting for authentication. There is none here: it only is kept and reported. */
  get maxAnonymousClients(): number {
    return this.limits.maxAnonymousClients;
  }

  get nextClientId(): number {
    return this.nextId;
  }

  /** Whether newcomers wait in the backlog because the server is full or descriptors ran out. */
  get isFull(): boolean {
    return this.exhausted !== undefined || this.clientCount >= this.limits.maxClients;
  }

  /** Lowering the limit closes nobody: newcomers wait until enough have left. */
  setLimits(limits: { maxClients: number; maxAnonymousClients: number }): void {
    this.limits = limits;
    this.updateBudget();
  }

  addListener(listener: Listener): void {
    this.listeners.push(listener);
    this.poller.addListener(listener.fd, this);
  }

  /** Begins to accept, and to serve the clients that were taken over. */
  start(): void {
    this.accepting = true;
    for (const connection of this.adopted.values()) connection.start();
    this.updateBudget();
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

  /** Clients that are to be adopted when they call, or when there is time. */
  expect(late: LateClients): void {
    this.late = late;
  }

  /** Adopts the late client behind a descriptor, if there is one: it has called. */
  adoptLateAt(fd: number): void {
    this.late?.adoptAt(fd);
  }

  /** Adopts so many of the late clients. Whether there are more. */
  adoptLate(count: number): boolean {
    if (this.late === null) return false;
    this.late.adopt(count);
    if (this.late.size > 0) return true;
    this.late = null;
    // Some called before it was their turn.
    this.adopted = new Map([...this.adopted].sort(([a], [b]) => a - b));
    return false;
  }

  /** Adopts an open connection, as a restart does: not served before it is started. */
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
    if (fd >= this.options.descriptorLimit - DESCRIPTOR_RESERVE) {
      this.pause(`descriptor ${fd} of ${this.options.descriptorLimit}`);
    } else this.updateBudget();
    this.options.changed();
  }

  open(connection: Connection<C>): C {
    return this.options.open(connection);
  }

  serve(connection: Connection<C>, reader: XdrReader, out: XdrWriter): Waiting | null {
    try {
      const waiting = this.dispatcher.dispatch(connection, reader, out);
      this.options.served?.();
      return waiting;
    } catch (error) {
      // Such as an error that repeats a name of 4 MiB, and is too long to be sent. C closes then, too.
      log.error(`${this.name}: no reply to client ${connection.id}: ${String(error)}`);
      connection.close();
      return null;
    }
  }

  closed(connection: Connection<C>): void {
    this.adopted.delete(connection.id);
    this.updateBudget();
    this.options.closed(connection);
    this.options.changed();
  }

  /** Who has waited long may be gone, with its pid given to somebody else. */
  private startTimeOf(pid: number): { readonly startTime?: number } {
    if (this.options.startTimeOf === undefined || performance.now() < this.openedAt + DOUBTFUL_MS) return {};
    const startTime = this.options.startTimeOf(pid);
    return startTime === undefined ? {} : { startTime };
  }

  private pause(reason: string): void {
    log.warn(`${this.name}: out of descriptors (${reason}), nobody is accepted for ${EXHAUSTED_PAUSE_MS / 1000} s`);
    clearTimeout(this.exhausted);
    this.exhausted = setTimeout(() => {
      this.exhausted = undefined;
      this.updateBudget();
    }, EXHAUSTED_PAUSE_MS);
    this.updateBudget();
  }

  private updateBudget(): void {
    const open = this.accepting && this.exhausted === undefined;
    const budget = open ? Math.max(0, this.limits.maxClients - this.clientCount) : 0;
    if (budget > 0 && !this.isOpen) this.openedAt = performance.now();
    this.isOpen = budget > 0;
    for (const { fd } of this.listeners) this.poller.setBudget(fd, budget);
  }
}
