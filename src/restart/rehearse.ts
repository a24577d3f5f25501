/**
 * Adopts a state document as a successor does, in a child of the daemon that has written it and goes on serving. The child changes
 * nothing: it has inherited no descriptor, and inspects its parent's through /proc. The addon is cut down to calls that only read, so
 * that any other call of an adoption fails the proof instead of being made.
 */
import { readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import type { Daemon, DaemonSettings } from '../daemon/daemon.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import type { ProcessHost } from '../lockd/process-host.ts';
import { type Addon, FileType, lastStat, posix, restrictPosix, SocketKind } from '../posix/posix.ts';
import type { VersionNumber } from '../libvirt/dialect.ts';
import { Poller } from '../rpc/poller.ts';
import type { StateDocument } from './document.ts';
import { descriptorDirectory } from '../proc/descriptors.ts';
import { descriptorInfo } from '../proc/locks.ts';
import { isLocalType, Mounts } from '../proc/mounts.ts';
import { restoreDaemon } from './adopt.ts';
import { inSlices } from '../rpc/slices.ts';

const { EBADF, EIO, ENOENT, ENOTSOCK } = constants.errno;

/** A held resource of the document that the successor would lose. */
interface LostResource {
  readonly kind: 'resource';
  /** Identifies it: a name may be too long. */
  readonly fd: number;
  readonly key: string | undefined;
  /** When its first hold began: a new file may have all else of one that was removed. */
  readonly since: number | undefined;
}

/** A client of the document that the successor would lose. */
interface LostClient {
  readonly kind: 'client';
  readonly server: 'virtlockd' | 'admin';
  readonly id: number;
  readonly fd: number;
}

/**
 * A difference between document and successor. It is a real loss unless the daemon itself has released the lock or closed the client
 * since it wrote the document: see {@link findLoss}.
 */
export type Loss = LostResource | LostClient;

/** So many are reported at most. */
const MAX_LOSSES = 100;

/**
 * @param document read whole
 * @param taken the same, read as the successor reads it
 * @param pid the process that wrote it
 * @throws Error when the successor could not go on with it
 */
export function rehearse(document: StateDocument, taken: StateDocument, pid: number, version: VersionNumber): Loss[] {
  const inspection = new Inspection(pid, listenersOf(document));
  restrictPosix(inspection.functions);
  const daemon = restoreDaemon(settingsOf(version), { document: taken, late: null });
  const losses = [...lostClients(document, daemon), ...lostResources(document, daemon)];
  // A descriptor that could not be inspected is not known to be lost.
  return losses.filter(({ fd }) => !inspection.unknown.has(fd)).slice(0, MAX_LOSSES);
}

function* lostClients({ lockServer, adminServer }: StateDocument, daemon: Daemon): Generator<LostClient> {
  const servers = [
    ['virtlockd', lockServer, daemon.lockServer],
    ['admin', adminServer, daemon.adminServer],
  ] as const;
  for (const [server, state, restored] of servers) {
    const adopted = restored.adoptAll();
    for (const { id, sock } of state?.clients ?? []) {
      if (!adopted.has(id)) yield { kind: 'client', server, id, fd: sock.fd };
    }
  }
}

function* lostResources({ lockspaces }: StateDocument, daemon: Daemon): Generator<LostResource> {
  for (const { directory, resources } of lockspaces) {
    const restored = daemon.lockspaces.find(directory)?.resources;
    for (const { name, fd, lockHeld, 'x-inode': key, 'x-holds': holds } of resources) {
      const file = restored?.get(name)?.file;
      // Without a descriptor it would stay held, but any process could lock it.
      if (!lockHeld || fd < 0 || (file?.locked === true && file.fd >= 0)) continue;
      yield { kind: 'resource', fd, key, since: holds?.[0]?.since };
    }
  }
}

function listenersOf({ lockServer, adminServer }: StateDocument): Set<number> {
  const services = [...lockServer.services, ...(adminServer?.services ?? [])];
  return new Set(services.flatMap(({ socks }) => socks.map(({ fd }) => fd)));
}

/** Inspects the descriptors of another process, where adoption inspects its own. */
class Inspection {
  readonly functions: Partial<Addon>;
  /** Descriptors that could not be inspected. */
  readonly unknown = new Set<number>();
  private readonly directory: string;
  private readonly listeners: ReadonlySet<number>;
  private readonly whole = posix;
  private readonly isPossible: boolean;
  private readonly mounts = new Mounts();
  private readonly pid: number;

  constructor(pid: number, listeners: ReadonlySet<number>) {
    this.pid = pid;
    this.directory = descriptorDirectory(pid);
    this.listeners = listeners;
    const { whole } = this;
    this.isPossible = whole.statInode(this.directory) >= 0;
    this.functions = {
      statFields: whole.statFields,
      statInode: (path) => whole.statInode(path),
      exit: (status) => whole.exit(status),
      fstatInode: (fd) => this.fileAt(fd),
      inspectSocket: (fd, peer) => this.socketKind(fd, peer),
      // Whatever adoption would change is left as it is.
      socketPath: () => null,
      setNonblocking: () => 0,
      listenAgain: () => 0,
      setlk: () => 0,
      setOfdLock: () => 0,
      // Before Linux 5.11, the successor opens files again that have lost their descriptor: see confirm.ts.
      openInode: () => -EIO,
      scanResources: (bytes, at, end, places) => whole.scanResources(bytes, at, end, places),
    };
  }

  /**
   * The successor stats open files, which no file system delays. A stat by path may hang on a file system that is not local: there only
   * the existence of the descriptor is checked, and the record counts.
   */
  private fileAt(fd: number): number {
    let mayHang: boolean;
    try {
      const { mount } = descriptorInfo(this.pid, fd);
      // A link such as `socket:[1]` is no path.
      mayHang = !isLocalType(this.mounts.typeOf(mount)) && readlinkSync(`${this.directory}/${fd}`).startsWith('/');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && this.isPossible) return -EBADF;
      return this.unknownAt(fd);
    }
    return mayHang ? this.unknownAt(fd) : this.at(fd);
  }

  private unknownAt(fd: number): number {
    this.unknown.add(fd);
    return -EIO;
  }

  private at(fd: number): number {
    const status = this.whole.statInode(`${this.directory}/${fd}`);
    if (status === -ENOENT && this.isPossible) return -EBADF;
    if (status < 0) this.unknown.add(fd);
    return status;
  }

  /** The kind of a socket shows within its process only, so the document is believed. */
  private socketKind(fd: number, peer: Int32Array): number {
    const status = this.at(fd);
    if (status < 0) return status;
    if (lastStat().type !== FileType.SOCKET) return -ENOTSOCK;
    peer.set([0, process.geteuid?.() ?? 0, process.getegid?.() ?? 0]);
    return this.listeners.has(fd) ? SocketKind.LISTENING : SocketKind.CONNECTED;
  }
}

function settingsOf(version: VersionNumber): DaemonSettings {
  return {
    poller: new Poller(),
    version,
    maxClients: 0,
    adminMaxClients: 0,
    timeout: 0,
    life: { program: '', started: 0, executed: 0, restarts: 0, deaths: 0 },
    processes: NOBODY,
    onEnd: () => undefined,
  };
}

/** Knows no process, waits for none, and sends no signal. */
const NOBODY: ProcessHost = {
  ownPid: process.pid,
  ownStartTime: undefined,
  reportsPeers: true,
  peerPidfd: () => -ENOENT,
  openPidfd: () => -ENOENT,
  startTime: () => undefined,
  isLocal: () => undefined,
  signal: () => 0,
  watch: () => undefined,
  close: () => undefined,
  now: () => 0,
  setTimeout: () => undefined,
};

/** Describes a loss of something that the daemon still has as in the document; undefined when there is none. */
export async function findLoss(daemon: Daemon, losses: readonly Loss[]): Promise<string | undefined> {
  const byDescriptor = new Map<number, LostResource>();
  for (const loss of losses) {
    if (loss.kind === 'resource') byDescriptor.set(loss.fd, loss);
    else if (isConnected(daemon, loss)) return `would lose client ${loss.id} of server ${loss.server}`;
  }
  if (byDescriptor.size === 0) return undefined;
  let lost: Resource | undefined;
  await inSlices(daemon.lockspaces.resources(), (resource) => {
    const { file } = resource;
    if (!file.locked) return;
    for (const fd of [file.fd, ...file.deferredFds]) if (isSame(resource, byDescriptor.get(fd))) lost = resource;
  });
  return lost && `would lose the lock of resource '${lost.name}'`;
}

function isConnected(daemon: Daemon, { server, id, fd }: LostClient): boolean {
  const { adminServer, lockServer } = daemon;
  const clients = server === 'admin' ? adminServer.adoptAll() : lockServer.adoptAll();
  return clients.get(id)?.fd === fd;
}

/** Whether it was held ever since the document was written. */
function isSame({ file, holds }: Resource, loss: LostResource | undefined): boolean {
  return loss?.key === file.key && holds.some(({ since }) => since === loss.since);
}
