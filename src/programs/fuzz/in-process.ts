/**
 * The target that is the daemon's code in this process: servers, dispatch and lockspaces, without an event loop. Bytes are fed
 * in as by the poller, and replies leave through a socket pair.
 */
import { mkdirSync } from 'node:fs';
import os from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { DEFAULT_VERSION_NUMBER } from '../../libvirt/dialect.ts';
import { logging } from '../../log/log.ts';
import { Daemon } from '../../daemon/daemon.ts';
import { type ProcessHost, realHost } from '../../lockd/process-host.ts';
import { posix } from '../../posix/posix.ts';
import { openDescriptors } from '../../proc/descriptors.ts';
import { Routes } from '../../proc/route.ts';
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
/** No process has this pid, so that an owner's end kills none. */
const PEER = 5_000_001;

/** It never polls. */
const poller = new Poller();

/** As if no process existed, because every peer is this process. */
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
/** Runs after which the daemon is replaced, and runs between two that log: to format errors takes longer than the calls. */
const FRESH_EVERY = 1024;
const LOGGED_EVERY = 64;
/** After a receive of less than this, no reply waits for room in the socket. */
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
  /** All replies have been read. */
  private drained = true;

  /**
   * @param hasEvents the daemon may send events
   * @param onFinished called when the daemon may have to end an owner
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
      // Now there is room for a reply that waited.
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

/** The time between two readings of the clock, in nanoseconds. */
const TICK_NS = 10_000;
const SECOND_NS = 1e9;

/**
 * Stops all timers, and has the daemon's clock (posix/clock.ts) advance only when it is read. Whether a timer fires before the next
 * call, or a slice of work ends, depends on the machine, and one seed must always do the same.
 */
function stopTime(): void {
  const stopped = setTimeout(() => undefined, 0);
  clearTimeout(stopped);
  globalThis.setTimeout = (() => stopped) as unknown as typeof setTimeout;
  const [begun] = process.hrtime();
  let elapsed = 0;
  const read = (): [number, number] => {
    elapsed += TICK_NS;
    return [begun + 1 + Math.floor(elapsed / SECOND_NS), elapsed % SECOND_NS];
  };
  process.hrtime = Object.assign(read, process.hrtime);
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
  private daemon: Daemon;
  private runs = 0;
  private readonly pair = new Int32Array(2);

  constructor(base: string) {
    this.base = base;
    mkdirSync(base, { recursive: true });
    process.chdir(base);
    logging.defaultOutput = LOGGED;
    logging.setOutputs(NO_OUTPUTS);
    stopTime();
    this.daemon = this.make();
  }

  private make(): Daemon {
    const daemon = new Daemon({
      poller,
      version: DEFAULT_VERSION_NUMBER,
      maxClients: MAX_CLIENTS,
      adminMaxClients: MAX_CLIENTS,
      timeout: 0,
      life: { program: '', started: 1, executed: 1, restarts: 0, deaths: 0 },
      onEnd: () => undefined,
      processes: NO_PROCESSES,
      // Its lease files wait for no storage helper.
      routes: new Routes({ mounts: () => new Map() }),
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

  private readonly finishEnds = (): void => this.daemon.ownerReaper.finish();

  answers(): boolean {
    return true;
  }

  pause(): void {
    // Nothing would happen.
  }

  flushEvents(): boolean {
    this.daemon.flushEvents();
    return true;
  }

  /** Writes the state document and parses it. */
  restart(): string | null {
    const own = { restarts: 1, started: 1 };
    const left = new Set<number>();
    const bytes = Buffer.concat([...formatPieces(captureState(this.daemon, own), left)]);
    const read = parseDocument(parseJson(bytes));
    if (!bytes.equals(formatDocument(read))) return 'the state document is not read as it was written';
    const named = namedDescriptors(read);
    // A descriptor that is missing loses the locks on its file at exec; another one is leaked.
    return isDeepStrictEqual(named, left) ? null : 'other descriptors outlive exec than the state document names';
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

  undo(model: Model): void {
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
      logging.setFilters('');
      logging.setOutputs(NO_OUTPUTS);
    }
    // To put errors into words takes longer than to serve the call.
    if (this.runs % LOGGED_EVERY === 0) logging.setOutputs(LOGGED);
    else if (this.runs % LOGGED_EVERY === 1) logging.setOutputs(NO_OUTPUTS);
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
