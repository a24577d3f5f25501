/** The daemon proper: its two servers, the lockspaces behind them, and what ends it. */
import { ErrorDomain } from '../../xdr/error.ts';
import { MESSAGE_MAX, MESSAGE_MIN } from '../../xdr/frame.ts';
import { adminProgram } from '../../xdr/programs/admin.ts';
import { LOCK_STRING_MAX, lockProgram } from '../../xdr/programs/lock.ts';
import { inquireProgram } from '../../xdr/programs/inquire.ts';
import { adminHandlers } from '../admin/handlers.ts';
import type { AdminContext, AdminHost } from '../admin/host.ts';
import type { LogSettings } from '../admin/log-settings.ts';
import { inquireHandlers } from '../inquire/handlers.ts';
import type { Life } from '../inquire/host.ts';
import { Inquiry } from '../inquire/inquiry.ts';
import { LockClient } from '../lockd/client.ts';
import { lockHandlers } from '../lockd/handlers.ts';
import { OwnerReaper } from '../lockd/owner-reaper.ts';
import { type ProcessHost, realHost } from '../lockd/process-host.ts';
import { Lockspaces, type Resource } from '../lockspace/lockspaces.ts';
import { logger } from '../log/log.ts';
import { descriptorLimit } from '../posix/limits.ts';
import { posix } from '../posix/posix.ts';
import type { Connection } from '../rpc/connection.ts';
import { dialectOf, type VersionNumber } from '../libvirt/dialect.ts';
import { bindService, type Speech } from '../rpc/dispatch.ts';
import { Server } from '../rpc/server.ts';

const log = logger('locking.lock_daemon');

/** The largest arguments of the lock program: two strings, and the words around them. */
const LOCK_RETAIN = MESSAGE_MIN + 2 * LOCK_STRING_MAX + 64;

/** Bytes of a warning in the status. */
const WARNING_MAX = 1000;

/** The longest that a timer of Node.js can wait. */
const LONGEST_TIMER_MS = 0x7fffffff;

export interface DaemonSettings {
  readonly version: VersionNumber;
  readonly maxClients: number;
  readonly adminMaxClients: number;
  /** End after this many seconds with no client and no lock; 0 never. */
  readonly timeout: number;
  /** The log settings that the admin program shows and changes. */
  readonly logging: LogSettings;
  /** What the process has been through, for who inquires. */
  readonly life: Life;
  /** Other processes, as the end of owners sees them; the real ones by default. */
  readonly processes?: ProcessHost;
  /** Called once when the daemon is to end of its own accord. */
  onTimeout(): void;
  /** The admin program asked for the end. `preserve`: what is held is to be kept for a successor. */
  onShutdown(preserve: boolean): void;
}

/** A client of the admin server, as both of its programs see it. */
export type AdminPeer = AdminContext & { readonly connection: Connection };

/** How a server is to be made: fresh from the configuration, or as a state document describes it. */
export interface ServerShape {
  readonly maxClients: number;
  readonly maxAnonymousClients: number;
  readonly nextClientId: number;
}

export class Daemon {
  readonly settings: DaemonSettings;
  readonly speech: Speech;
  readonly lockspaces: Lockspaces;
  readonly ownerEnds: OwnerReaper;
  readonly lockServer: Server<LockClient>;
  readonly adminServer: Server<AdminPeer>;
  readonly inquiry = new Inquiry();
  private idleTimer: NodeJS.Timeout | undefined;
  private idleSince = 0;
  private timeout: number;
  /** The timeout in seconds that was set while running; undefined while it is the one of the command line. */
  changedTimeout: number | undefined;

  constructor(settings: DaemonSettings, shapes: { lock?: ServerShape; admin?: ServerShape } = {}) {
    this.settings = settings;
    this.timeout = settings.timeout;
    const { version } = settings;
    this.speech = { version, dialect: dialectOf(version) };
    this.lockspaces = new Lockspaces(this.speech.dialect);
    const processes = settings.processes ?? realHost;
    this.ownerEnds = new OwnerReaper({
      lockspaces: this.lockspaces,
      host: processes,
      socketOf: (pid) => this.socketOf(pid),
    });
    const fresh = (maxClients: number): ServerShape => ({
      maxClients,
      maxAnonymousClients: maxClients,
      nextClientId: 1,
    });
    const limit = descriptorLimit();
    const common = { speech: this.speech, descriptorLimit: limit };
    const changed = (): void => {
      this.watchIdleness();
    };

    const host = this.adminHost();
    const identify = ({ connection }: { readonly connection: { isIdentified: boolean } }): void => {
      connection.isIdentified = true;
    };

    this.lockServer = new Server<LockClient>({
      ...common,
      ...(shapes.lock ?? fresh(settings.maxClients)),
      name: 'virtlockd',
      services: [
        bindService(
          lockProgram,
          ErrorDomain.RPC,
          lockHandlers(this.lockspaces, this.speech.dialect, processes),
          version,
          identify,
        ),
      ],
      retain: LOCK_RETAIN,
      open: (connection) => new LockClient(connection),
      ...(processes.tellsPeers ? {} : { startTimeOf: (pid: number) => processes.startTime(pid) ?? undefined }),
      accepted: (connection) => {
        this.inquiry.clientOpened(connection);
      },
      closed: (client) => {
        this.inquiry.clientClosed(client.connection);
        this.lockspaces.budget.countName(client.ownerName, '');
        this.ownerEnds.clientClosed(client);
      },
      changed,
    });
    this.adminServer = new Server<AdminPeer>({
      ...common,
      ...(shapes.admin ?? fresh(settings.adminMaxClients)),
      name: 'admin',
      services: [
        bindService(adminProgram, ErrorDomain.ADMIN, adminHandlers, version, identify),
        bindService(inquireProgram, ErrorDomain.RPC, this.inquireHandlers(limit), version, identify),
      ],
      // Its lists of strings may fill any message, and its clients are the daemon's own user.
      retain: MESSAGE_MAX,
      open: (connection) => ({ connection, host }),
      closed: ({ connection }) => {
        this.inquiry.forget(connection);
      },
      changed,
    });
  }

  get servers(): readonly [Server<LockClient>, Server<AdminPeer>] {
    return [this.lockServer, this.adminServer];
  }

  /** What the admin program's handlers see of the daemon. */
  private adminHost(): AdminHost {
    const { speech, settings } = this;
    const servers = (): AdminHost['servers'] => this.servers;
    return {
      ...speech,
      get servers() {
        return servers();
      },
      logging: settings.logging,
      setTimeout: (seconds) => {
        this.setTimeout(seconds);
      },
      shutdown: (preserve) => {
        settings.onShutdown(preserve);
      },
    };
  }

  private inquireHandlers(limit: number): ReturnType<typeof inquireHandlers> {
    const { settings, lockspaces, ownerEnds } = this;
    const servers = (): Daemon['servers'] => this.servers;
    const host = {
      version: settings.version,
      lockspaces,
      get servers() {
        return servers();
      },
      life: settings.life,
      descriptorLimit: limit,
      killing: () => ownerEnds.count,
      unkillable: () => ownerEnds.overdue.map(({ text }) => text.slice(0, WARNING_MAX)),
    };
    return inquireHandlers(host, this.inquiry);
  }

  /** Sends what subscribers are still to be told, before the daemon executes its program anew. */
  flushEvents(): void {
    this.inquiry.subscriptions.flush();
  }

  start(): void {
    this.inquiry.watch(
      this.lockspaces,
      [...this.adminServer.clients.values()].map(({ connection }) => connection),
    );
    for (const server of this.servers) server.start();
    this.watchIdleness();
  }

  /** Leaves newcomers in the backlog until {@link resume}; clients are served on. */
  suspend(): void {
    for (const server of this.servers) server.suspend();
  }

  resume(): void {
    for (const server of this.servers) server.resume();
  }

  /** Clients and locks at present. */
  get load(): number {
    return this.servers.reduce((sum, { clientCount }) => sum + clientCount, this.lockspaces.count);
  }

  /** How many clients have a message half received or a reply half sent. */
  backlogged(): number {
    let count = 0;
    for (const bytes of this.pending()) if (bytes > 0) count++;
    return count;
  }

  /** Bytes of messages half received and of replies half sent. */
  get pendingBytes(): number {
    let sum = 0;
    for (const bytes of this.pending()) sum += bytes;
    return sum;
  }

  /** Of each client. */
  private *pending(): Generator<number> {
    for (const { clients } of this.servers) {
      for (const { connection } of clients.values()) {
        const { received, unsent } = connection.backlog;
        yield received.length + unsent.length;
      }
    }
  }

  /** Ends after `seconds` with no client and no lock; 0 never. */
  setTimeout(seconds: number): void {
    this.changedTimeout = seconds;
    this.timeout = seconds;
    this.watchIdleness();
  }

  /** The socket of the connection of the process with this pid that is an owner, if it has one. */
  private socketOf(pid: number): number | undefined {
    for (const { connection, context } of this.lockServer.clients.values()) {
      if (context.isOwnerItself && context.owner?.pid === pid) return connection.fd;
    }
    return undefined;
  }

  /**
   * Gives up everything: locks that nobody guards are worse than a dead guest, so all holders are ended, whether they are
   * connected or not. Their locks are held until they are gone, for other hosts wait for these. Resolves when that is so or
   * nothing more can be done, and the sockets that the daemon made are removed.
   */
  async shutdown(): Promise<void> {
    clearTimeout(this.idleTimer);
    this.timeout = 0;
    for (const server of this.servers) {
      server.suspend();
      for (const { fd, path, unlink } of server.listeners) {
        if (unlink && path !== null) posix.unlink(path);
        posix.close(fd);
      }
      for (const { connection } of [...server.clients.values()]) connection.close();
    }
    this.ownerEnds.endAll();
    await this.ownerEnds.settled();
    this.ownerEnds.finish();
    for (const { resources } of this.lockspaces) {
      for (const resource of [...resources.values()]) this.giveUp(resource);
    }
  }

  /** Releases what nobody is known to be behind. What an owner holds that could not be ended is left as it is, to the last. */
  private giveUp(resource: Resource): void {
    if (resource.holds.every(({ end }) => end === undefined)) this.lockspaces.endResource(resource);
    else log.error(`Resource '${resource.name}' is unguarded from now on: its owner could not be ended`);
  }

  /** C forgets the locks when it counts the idle seconds; here a held lock keeps the daemon. */
  private watchIdleness(): void {
    clearTimeout(this.idleTimer);
    if (this.timeout === 0 || !this.isIdle) return;
    this.idleSince = performance.now();
    this.awaitIdleEnd();
  }

  /** Waits in steps: a timer of Node.js takes 24 days at most, a timeout may be 136 years. */
  private awaitIdleEnd(): void {
    const left = this.idleSince + this.timeout * 1000 - performance.now();
    this.idleTimer = setTimeout(
      () => {
        if (left > LONGEST_TIMER_MS) this.awaitIdleEnd();
        else if (this.isIdle) this.settings.onTimeout();
        else this.watchIdleness();
      },
      Math.min(left, LONGEST_TIMER_MS),
    );
  }

  private get isIdle(): boolean {
    return this.load === 0;
  }
}
