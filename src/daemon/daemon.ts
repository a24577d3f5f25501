/** The daemon: its two servers, the lockspaces behind them, and its end. */
import { ErrorDomain } from '../../xdr/error.ts';
import { MESSAGE_MAX, MESSAGE_MIN } from '../../xdr/frame.ts';
import { adminProgram } from '../../xdr/programs/admin.ts';
import { LOCK_STRING_MAX, lockProgram } from '../../xdr/programs/lock.ts';
import { inquireProgram } from '../../xdr/programs/inquire.ts';
import { adminHandlers } from '../admin/handlers.ts';
import type { AdminContext, AdminHost } from '../admin/host.ts';
import { inquireHandlers } from '../inquire/handlers.ts';
import type { InquireContext, InquireHost, Life, SurvivalView } from '../inquire/host.ts';
import { Inquiry } from '../inquire/inquiry.ts';
import type { LastDeath } from '../inquire/state.ts';
import { LockClient, type LockHost } from '../lockd/client.ts';
import { lockHandlers } from '../lockd/handlers.ts';
import { type OwnConnection, OwnerReaper } from '../lockd/owner-reaper.ts';
import { type ProcessHost, realHost } from '../lockd/process-host.ts';
import { Budget } from '../lockspace/budget.ts';
import type { FileKeeper } from '../lockspace/file-keeper.ts';
import type { Hold } from '../lockspace/owner.ts';
import { RemoteCalls } from '../lockspace/remote-calls.ts';
import { LockWatch, type LockWatchSettings } from '../lockspace/lock-watch.ts';
import { RemoteFiles } from '../lockspace/remote-files.ts';
import { Lockspaces, type Resource } from '../lockspace/lockspaces.ts';
import { logger, logging } from '../log/log.ts';
import { descriptorLimit } from '../proc/limits.ts';
import type { Routes } from '../proc/route.ts';
import { now } from '../posix/clock.ts';
import { posix } from '../posix/posix.ts';
import { type Dialect, dialectOf, type VersionNumber } from '../libvirt/dialect.ts';
import { bindProgram } from '../rpc/dispatch.ts';
import { Connection } from '../rpc/connection.ts';
import type { Poller } from '../rpc/poller.ts';
import { Server } from '../rpc/server.ts';
import { Asker, Turns } from '../storage/asker.ts';
import { Storages } from '../storage/storages.ts';
import type { StoredName } from '../store/names.ts';
import { NO_CLIENT_RECORDER } from './client-recorder.ts';
import { EtcdLocks, type EtcdLocksSettings } from './etcd-locks.ts';

const log = logger('locking.lock_daemon');

/** The largest arguments of the lock program: two strings, and the words around them. */
const MAX_USEFUL_LOCK_MESSAGE = MESSAGE_MIN + 2 * LOCK_STRING_MAX + 64;

/** How long storage that may hang is waited for at the daemon's end, in milliseconds. */
const RELEASE_MS = 3000;

/** The longest that a timer of Node.js can wait. */
const MAX_TIMER_MS = 0x7fffffff;

export interface DaemonSettings {
  readonly poller: Poller;
  readonly version: VersionNumber;
  readonly maxClients: number;
  readonly adminMaxClients: number;
  /** End after this many seconds with no client and no lock; 0 never. */
  readonly timeout: number;
  /** How locks on storage that hosts may share are confirmed. */
  readonly lockWatch?: LockWatchSettings;
  /** Lockspaces that are kept in etcd; by default none is. */
  readonly etcd?: EtcdLocksSettings;
  /** What the process has been through. */
  readonly life: Life;
  /** Descriptor of the locked pid file, if there is one. */
  readonly pidFile?: number | undefined;
  /** The real ones by default. */
  readonly processes?: ProcessHost;
  /** Which file systems may hang or be frozen; by default those of this process's mounts. */
  readonly routes?: Routes;
  /** Keeps held files beyond the daemon's life; by default nobody does. */
  readonly keeper?: FileKeeper & {
    readonly status: SurvivalView;
    readonly record: number | undefined;
    /** Names of what is stored beside the record, and of it. */
    readonly names: readonly StoredName[] | undefined;
    readonly queue: number | undefined;
  };
  /** The daemon is to end: it is idle, or the admin program asked for it. */
  onEnd(): void;
}

/** A client of the admin server, for both of its programs. */
export type AdminPeer = AdminContext & InquireContext;

/** Limits and ids of a server: from the configuration, or from a state document. */
export interface ServerShape {
  readonly maxClients: number;
  readonly maxAnonymousClients: number;
  readonly nextClientId: number;
}

function freshShape(maxClients: number): ServerShape {
  return { maxClients, maxAnonymousClients: maxClients, nextClientId: 1 };
}

/** Whether the owner with this pid is the peer itself. */
function isOwn({ context }: Connection<LockClient>, pid: number): boolean {
  return context.isOwnerItself && context.owner?.pid === pid;
}

function asOwn(connection: Connection<LockClient> | undefined): OwnConnection | undefined {
  return connection && { socket: connection.fd, startTime: connection.context.ownStart };
}

export class Daemon implements LockHost, AdminHost, InquireHost {
  readonly settings: DaemonSettings;
  readonly poller: Poller;
  readonly dialect: Dialect;
  readonly logging = logging;
  readonly life: Life;
  lastDeath: LastDeath | undefined;
  readonly processes: ProcessHost;
  readonly descriptorLimit = descriptorLimit();
  readonly lockspaces: Lockspaces;
  readonly storages: Storages;
  readonly remoteFiles: RemoteFiles;
  readonly lockWatch: LockWatch;
  /** Whose turn it is at each path of storage that may hang. */
  private readonly turns = new Turns();
  readonly ownerReaper: OwnerReaper;
  /** Null: no lockspace is kept in etcd. */
  readonly etcd: EtcdLocks | null;
  readonly lockServer: Server<LockClient>;
  readonly adminServer: Server<AdminPeer>;
  readonly servers: readonly [Server<LockClient>, Server<AdminPeer>];
  readonly inquiry = new Inquiry();
  recorder = NO_CLIENT_RECORDER;
  private idleTimer: NodeJS.Timeout | undefined;
  private idleSince = 0;
  private timeout: number;
  /** The timeout in seconds if it was set at run time. */
  changedTimeout: number | undefined;

  constructor(settings: DaemonSettings, shapes: { lock?: ServerShape; admin?: ServerShape } = {}) {
    const { poller, version, life, timeout, processes = realHost(poller), keeper, routes } = settings;
    this.settings = settings;
    this.poller = poller;
    this.dialect = dialectOf(version);
    this.life = life;
    this.timeout = timeout;
    this.processes = processes;
    this.lockspaces = new Lockspaces(this.dialect, new Budget(), keeper);
    this.storages = new Storages(poller, routes);
    const endOwners = (holds: readonly Hold[]): void => {
      this.ownerReaper.end(holds);
    };
    this.remoteFiles = new RemoteFiles(this.storages, this.lockspaces, {
      changed: () => {
        this.recorder.helpersChanged();
      },
      closing: (fd) => {
        this.recorder.closing(fd);
      },
      endOwners,
    });
    this.lockspaces.remoteFiles = this.remoteFiles;
    this.lockWatch = new LockWatch(this.storages, this.lockspaces, { endOwners }, settings.lockWatch);
    this.lockspaces.lockWatch = this.lockWatch;
    this.lockspaces.unseenEndOf = (hold) => this.unreadEndOf(hold);
    this.ownerReaper = new OwnerReaper({
      lockspaces: this.lockspaces,
      host: processes,
      connectionOf: (pid) => asOwn(this.ownConnectionsOf(pid).at(-1)),
      connectionOfHold: (hold) => asOwn(this.ownConnectionOf(hold)),
    });
    this.etcd = settings.etcd === undefined ? null : new EtcdLocks(settings.etcd, this);
    this.lockspaces.engine = this.etcd?.engine ?? null;
    const common = {
      poller,
      dialect: this.dialect,
      descriptorLimit: this.descriptorLimit,
      changed: () => {
        this.watchIdleness();
      },
    };

    this.lockServer = new Server<LockClient>({
      ...common,
      ...(shapes.lock ?? freshShape(settings.maxClients)),
      name: 'virtlockd',
      sparedReserve: 1,
      programs: [bindProgram(lockProgram, ErrorDomain.RPC, lockHandlers, version)],
      maxUsefulMessage: MAX_USEFUL_LOCK_MESSAGE,
      open: (connection) => new LockClient(connection, this),
      ...(processes.reportsPeers ? {} : { startTimeOf: (pid: number) => processes.startTime(pid) ?? undefined }),
      accepted: (connection) => {
        this.recorder.lockClientOpened(connection);
        this.inquiry.clientOpened(connection);
      },
      closed: (connection) => {
        const client = connection.context;
        client.remote.abandon();
        this.inquiry.clientClosed(connection);
        this.lockspaces.budget.replaceName(client.ownerName, '');
        this.ownerReaper.clientClosed(client);
        // Behind what its end has begun: whoever finds the one on record finds the other, too.
        this.recorder.lockClientClosed(connection);
      },
    });
    this.adminServer = new Server<AdminPeer>({
      ...common,
      ...(shapes.admin ?? freshShape(settings.adminMaxClients)),
      name: 'admin',
      // Operators get in when guests do not any more.
      sparedReserve: 1 / 4,
      programs: [
        bindProgram(adminProgram, ErrorDomain.ADMIN, adminHandlers, version),
        bindProgram(inquireProgram, ErrorDomain.RPC, inquireHandlers, version),
      ],
      // Its lists of strings may fill any message, and its clients are the daemon's own user.
      maxUsefulMessage: MESSAGE_MAX,
      open: (connection) => ({ connection, host: this, subscribed: false, missed: 0 }),
      accepted: (connection) => {
        this.recorder.adminClientOpened(connection);
      },
      served: (connection) => {
        this.recorder.adminCallServed(connection);
      },
      closed: (connection) => {
        this.inquiry.forget(connection.context);
        this.recorder.adminClientClosed(connection);
      },
    });
    this.servers = [this.lockServer, this.adminServer];
  }

  makeRemoteCalls(): RemoteCalls {
    return new RemoteCalls(this.storages, new Asker(this.turns));
  }

  clientChanged({ connection }: LockClient): void {
    this.recorder.lockClientChanged(connection);
  }

  /** Whether an owner holds a lock, or is connected and may do so again: a suspended guest has given its locks back. */
  get hasOwners(): boolean {
    if (this.lockspaces.count > 0) return true;
    for (const { context } of this.lockServer.adoptAll().values()) if (context.isOwnerItself) return true;
    return false;
  }

  get survival(): SurvivalView | null {
    return this.settings.keeper?.status ?? null;
  }

  /** Sends events that are still collected, before a re-execution. */
  flushEvents(): void {
    this.inquiry.flush();
  }

  start(): void {
    const clients = Array.from(this.adminServer.adoptAll().values(), ({ context }) => context);
    this.inquiry.watch(this.lockspaces, clients);
    for (const server of this.servers) server.start();
    this.watchIdleness();
  }

  /** Accepts nobody until {@link resume}; clients are served. */
  suspend(): void {
    for (const server of this.servers) server.suspend();
  }

  resume(): void {
    for (const server of this.servers) server.resume();
  }

  /**
   * Makes the calls again that have waited and are about to be made again. Before the state is captured: a release that they have waited
   * for is no part of it any more, so that the next program would refuse them.
   */
  makeWaitedCalls(): void {
    this.settings.poller.hurry((connection) => connection instanceof Connection && connection.arrival > 0);
  }

  /** Clients and locks at present. */
  get load(): number {
    return this.servers.reduce((sum, { clientCount }) => sum + clientCount, this.lockspaces.count);
  }

  /** The number of clients with a message half received or a reply half sent. */
  pendingCount(): number {
    let count = 0;
    for (const bytes of this.pendingSizes()) if (bytes > 0) count++;
    return count;
  }

  /** Bytes of messages half received and of replies half sent. */
  get pendingBytes(): number {
    let sum = 0;
    for (const bytes of this.pendingSizes()) sum += bytes;
    return sum;
  }

  private *pendingSizes(): Generator<number> {
    for (const server of this.servers) {
      for (const { pending } of server.adoptAll().values()) yield pending.received.length + pending.unsent.length;
    }
  }

  /** Ends after `seconds` with no client and no lock; 0 never. */
  setTimeout(seconds: number): void {
    this.changedTimeout = seconds;
    this.timeout = seconds;
    this.watchIdleness();
  }

  requestEnd(): void {
    this.settings.onEnd();
  }

  private ownConnectionsOf(pid: number): Connection<LockClient>[] {
    return [...this.lockServer.adoptAll().values()].filter((connection) => isOwn(connection, pid));
  }

  /**
   * The own connection of the process that a hold is of: the one that it was acquired through. A C daemon does not say which it was: then
   * the only one that it has handed over. Another process with that pid has made any other one: a former one, of which a child has kept it, or
   * a later one.
   */
  private ownConnectionOf({ client, owner: { pid } }: Hold): Connection<LockClient> | undefined {
    if (client === 0) {
      const { clients } = this.ownerReaper.origin;
      const [first, second] = clients === 0 ? [] : this.ownConnectionsOf(pid).filter(({ id }) => id < clients);
      return second === undefined ? first : undefined;
    }
    const acquirer = this.lockServer.findAny(client);
    return acquirer !== undefined && isOwn(acquirer, pid) ? acquirer : undefined;
  }

  /** The own connection of a hold's owner, when its peer has hung up and nobody has read that yet. Libvirtd may have acquired the hold. */
  private unreadEndOf(hold: Hold): Connection<LockClient> | null {
    const connection = this.ownConnectionOf(hold) ?? this.ownConnectionsOf(hold.owner.pid).at(-1);
    return connection?.hasUnreadEnd === true ? connection : null;
  }

  /**
   * Gives up everything. Unguarded locks are worse than a dead guest, so all owners are killed, connected or not. Their locks are held
   * until they are gone, for other hosts wait for these. Resolves when that is so, or nothing more can be done, and the sockets of the
   * daemon are unlinked.
   */
  async shutdown(): Promise<void> {
    clearTimeout(this.idleTimer);
    this.timeout = 0;
    for (const server of this.servers) {
      server.suspend();
      for (const { fd, path, unlink } of server.listeners) {
        // systemd may have bound its own there since, which is to stay.
        const isSystemds = server.listeners.some((other) => !other.unlink && other.path === path);
        if (unlink && path !== null && !isSystemds) posix.unlink(path);
        posix.close(fd);
      }
      for (const connection of [...server.adoptAll().values()]) connection.close();
    }
    this.ownerReaper.endAll();
    await this.ownerReaper.allKilled();
    this.ownerReaper.finish();
    for (const { resources } of this.lockspaces) {
      for (const resource of [...resources.values()]) this.giveUp(resource);
    }
    await Promise.all([this.remoteFiles.released(RELEASE_MS), this.etcd?.end(RELEASE_MS)]);
    for (const { name, path, file } of this.remoteFiles.unreleased) {
      const end = file.remote === null ? 'leaves its file behind' : 'is left to its storage helper';
      log.error(`Resource '${name}' ${end}, because the file system at ${path} does not answer`);
    }
  }

  /** Releases a resource, unless its owner could not be killed: that one keeps it to the last. */
  private giveUp(resource: Resource): void {
    if (resource.release !== null) return;
    if (resource.holds.every(({ end }) => end === undefined)) this.lockspaces.endResource(resource);
    else log.error(`Resource '${resource.name}' is unguarded from now on: its owner could not be ended`);
  }

  /** Restarts the idle timer. C ignores locks here; this daemon is not idle while it holds one. */
  private watchIdleness(): void {
    clearTimeout(this.idleTimer);
    if (this.timeout === 0 || !this.isIdle) return;
    this.idleSince = now();
    this.awaitIdleEnd();
  }

  /** In steps: a timer of Node.js takes 24 days at most, a timeout may be 136 years. */
  private awaitIdleEnd(): void {
    const left = this.idleSince + this.timeout * 1000 - now();
    this.idleTimer = setTimeout(
      () => {
        if (left > MAX_TIMER_MS) this.awaitIdleEnd();
        else if (this.isIdle) this.settings.onEnd();
        else this.watchIdleness();
      },
      Math.min(left, MAX_TIMER_MS),
    );
  }

  private get isIdle(): boolean {
    return this.load === 0;
  }
}
