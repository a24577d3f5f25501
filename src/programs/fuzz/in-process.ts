/**
 * The daemon in this very process: its servers, dispatch and lockspaces, fed with bytes as the poller would, without
 * its event loop. Replies leave through a socket pair.
 */
import { mkdirSync } from 'node:fs';
import os from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { LogSettings } from '../../admin/log-settings.ts';
import { DEFAULT_VERSION_NUMBER } from '../../libvirt/dialect.ts';
import { logging } from '../../log/log.ts';
import { Daemon } from '../../daemon/daemon.ts';
import { type ProcessHost, realHost } from '../../lockd/process-host.ts';
import { posix } from '../../posix/posix.ts';
import { openDescriptors } from '../../proc/descriptors.ts';
import type { Connection } from '../../rpc/connection.ts';
import { Poller } from '../../rpc/poller.ts';
import { captureState } from '../../restart/capture.ts';
import { formatDocument, formatPieces, type StateDocument } from '../../restart/document.ts';
import { parseDocument, parseJson } from '../../restart/parse.ts';
import { client } from './client.ts';
import type { Beginning, Model } from './model.ts';
import type { ServerName } from './steps.ts';
import type { Link, Target } from './target.ts';
import { wipe } from './world.ts';

const { EAGAIN, ESRCH } = os.constants.errno;
/** No process has it, so that an owner's end kills nobody. */
const PEER = 5_000_001;

/** Nothing of it begins to poll. */
const poller = new Poller();

/** As if nobody had any of the pids: the peers are this very process. */
const NO_PROCESSES: ProcessHost = {
  ...realHost(poller),
  peerPidfd: () => -ESRCH,
  openPidfd: () => -ESRCH,
  startTime: () => null,
  isLocal: () => true,
};

const into = Buffer.alloc(256 * 1024);
const NO_KNOWN: ReadonlySet<string> = new Set();
const NOBODY = { virtlockd: [], admin: [] } as const;
const MAX_CLIENTS = 1000;
/** Runs after which the daemon is made anew, and how many of them pass for one whose errors are put into words. */
const FRESH_EVERY = 1024;
const LOGGED_EVERY = 64;
/** When less than this comes at once, nothing waits for room in the socket. */
const SHORT = 32 * 1024;
const NO_OUTPUTS = ' ';
const LOGGED = '1:file:/dev/null';

/** Every descriptor in a document. */
function namedDescriptors({ lockServer, adminServer, lockspaces }: StateDocument): Set<number> {
  const servers = adminServer === null ? [lockServer] : [lockServer, adminServer];
  return new Set([
    ...servers.flatMap(({ services, clients }) => [
      ...services.flatMap(({ socks }) => socks.map(({ fd }) => fd)),
      ...[...clients].map(({ sock }) => sock.fd),
    ]),
    ...[...lockspaces].flatMap(({ resources }) =>
      [...resources].flatMap(({ fd, 'x-spares': spares = [] }) => [fd, ...spares]),
    ),
  ]);
}

class InProcessLink implements Link {
  readonly client: number;
  private readonly connection: Connection;
  private readonly fd: number;
  private readonly onFinished: () => void;
  private readonly hasEvents: boolean;
  /** All that was sent has been read. */
  private drained = true;

  /**
   * @param hasEvents something may come that nobody asked for
   * @param onFinished called when the daemon may have something to finish
   */
  constructor(connection: Connection, fd: number, hasEvents: boolean, onFinished: () => void) {
    this.client = connection.id;
    this.connection = connection;
    this.fd = fd;
    this.hasEvents = hasEvents;
    this.onFinished = onFinished;
  }

  send(bytes: Buffer, descriptors: number): void {
    this.drained = false;
    if (this.connection.isOpen) this.connection.onRead(bytes, 0, bytes.length, descriptors > 0);
    this.finishIfClosed();
    poller.outbox.send();
  }

  /** On a busy machine one slice may not release all that an owner held. */
  private finishIfClosed(): void {
    if (!this.connection.isOpen) this.onFinished();
  }

  receive(): Buffer | 'closed' | null {
    if (this.drained && !this.hasEvents && this.connection.isOpen) return null;
    for (;;) {
      const got = client.receive(this.fd, into, 0, 0);
      if (got > 0) {
        this.drained = got < SHORT;
        return Buffer.from(into.subarray(0, got));
      }
      if (got !== -EAGAIN) return 'closed';
      this.drained = true;
      // A reply for which there was no room: there is now.
      if (!this.connection.isOpen || this.connection.pending.unsent.length === 0) return null;
      this.connection.onWritable();
      poller.outbox.send();
    }
  }

  finish(): void {
    if (this.connection.isOpen) this.connection.onRead(into, 0, 0, false);
    this.onFinished();
  }

  close(): void {
    this.finish();
    client.close(this.fd);
  }
}

/** Whether a timer has fired before the next call would depend on the machine, and with it what the same seed does. */
function stopTimers(): void {
  const stopped = setTimeout(() => undefined, 0);
  clearTimeout(stopped);
  globalThis.setTimeout = (() => stopped) as unknown as typeof setTimeout;
}

export class InProcess implements Target {
  readonly name = 'in-process';
  readonly base: string;
  readonly pid = process.pid;
  readonly peer = PEER;
  readonly patience = 0;
  readonly known = NO_KNOWN;
  readonly isSpoilt = false;
  readonly beginning: Beginning = {
    version: DEFAULT_VERSION_NUMBER,
    inquires: true,
    noticesAtOnce: true,
    maxClients: { virtlockd: MAX_CLIENTS, admin: MAX_CLIENTS },
    standing: NOBODY,
    leaving: NOBODY,
  };
  private readonly settings = new LogSettings(logging);
  private daemon: Daemon;
  private runs = 0;
  private readonly pair = new Int32Array(2);

  constructor(base: string) {
    this.base = base;
    mkdirSync(base, { recursive: true });
    process.chdir(base);
    logging.defaultOutput = LOGGED;
    this.settings.setOutputs(NO_OUTPUTS);
    stopTimers();
    this.daemon = this.make();
  }

  private make(): Daemon {
    const daemon = new Daemon({
      poller,
      version: DEFAULT_VERSION_NUMBER,
      maxClients: MAX_CLIENTS,
      adminMaxClients: MAX_CLIENTS,
      timeout: 0,
      logging: this.settings,
      life: { program: '', started: 1, executed: 1, restarts: 0, deaths: 0 },
      onEnd: () => undefined,
      processes: NO_PROCESSES,
    });
    daemon.start();
    return daemon;
  }

  open(name: ServerName): Link | null {
    const { lockServer, adminServer } = this.daemon;
    const server = name === 'admin' ? adminServer : lockServer;
    if (server.isFull || client.pair(this.pair) < 0) return null;
    const [near = -1, far = -1] = this.pair;
    posix.setNonblocking(near);
    const id = server.nextClientId;
    server.onAccept(near, PEER, process.geteuid?.() ?? 0, 0);
    const opened = server.adoptAll().get(id);
    if (opened === undefined) {
      client.close(far);
      return null;
    }
    return new InProcessLink(opened, far, name === 'admin', this.finishEnds);
  }

  private readonly finishEnds = (): void => {
    this.daemon.ownerReaper.finish();
  };

  answers(): boolean {
    // It cannot but have answered: every call returns before the next one.
    return true;
  }

  pause(): void {
    // Nothing happens meanwhile.
  }

  flushEvents(): boolean {
    this.daemon.flushEvents();
    return true;
  }

  /** Here, the state as it would be handed over is written and read. */
  restart(): string | null {
    const own = { restarts: 1, started: 1 };
    const left = new Set<number>();
    const bytes = Buffer.concat([...formatPieces(captureState(this.daemon, own), left)]);
    const read = parseDocument(parseJson(bytes));
    if (!bytes.equals(formatDocument(read))) return 'the state document is not read as it was written';
    const named = namedDescriptors(read);
    // One that is closed on exec takes the locks with it that the process has on its file, another is leaked.
    return isDeepStrictEqual(named, left) ? null : 'not the descriptors that the state document names outlive exec';
  }

  death(): string | null {
    return null;
  }

  descriptors(): number {
    return openDescriptors('self').length;
  }

  memory(): number {
    return process.memoryUsage.rss();
  }

  settle(model: Model): void {
    const { daemon } = this;
    const { lockspaces } = daemon;
    for (const { resources } of lockspaces) {
      for (const resource of [...resources.values()]) lockspaces.endResource(resource);
    }
    lockspaces.byPath.clear();
    this.runs++;
    if (model.admin.touched) {
      for (const server of daemon.servers) {
        server.setLimits({ maxClients: MAX_CLIENTS, maxAnonymousClients: MAX_CLIENTS });
        server.priorityWorkers = 0;
      }
      daemon.setTimeout(0);
      daemon.changedTimeout = undefined;
      this.settings.setFilters('');
      this.settings.setOutputs(NO_OUTPUTS);
    }
    // To put errors into words takes longer than to serve the call.
    if (this.runs % LOGGED_EVERY === 0) this.settings.setOutputs(LOGGED);
    else if (this.runs % LOGGED_EVERY === 1) this.settings.setOutputs(NO_OUTPUTS);
    if (this.runs % FRESH_EVERY === 0) this.daemon = this.make();
    wipe(this.base);
  }

  reset(): Promise<void> {
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }
}
