/**
 * Takes over a state document as a successor does, in a child of the daemon that has written it and goes on serving meanwhile.
 * Nothing is touched: the child has inherited no descriptor, and only looks at those of its parent through /proc. The addon is
 * cut down to what looks, so that whatever else is called by an adoption fails the proof instead of being done.
 */
import { constants, readlinkSync } from 'node:fs';
import os from 'node:os';
import { LogSettings } from '../admin/log-settings.ts';
import type { Daemon, DaemonSettings } from '../daemon/daemon.ts';
import { logging } from '../log/log.ts';
import type { ProcessHost } from '../lockd/process-host.ts';
import { type Addon, lastStat, posix, restrictPosix, SocketKind } from '../posix/posix.ts';
import type { VersionNumber } from '../libvirt/dialect.ts';
import { Poller } from '../rpc/poller.ts';
import type { StateDocument } from './document.ts';
import { descriptorDirectory } from '../proc/descriptors.ts';
import { descriptorInfo } from '../proc/locks.ts';
import { isLocalType, Mounts } from '../proc/mounts.ts';
import { restoreDaemon } from './restore.ts';

const { EBADF, EIO, ENOENT, ENOTSOCK } = os.constants.errno;

/** A held resource of the document that the successor would not hold. */
export interface LostResource {
  readonly kind: 'resource';
  /** Its name may be too long to be told. */
  readonly fd: number;
  readonly key: string | undefined;
  /** When its first hold began: a file made anew may have all else of one that was removed. */
  readonly since: number | undefined;
}

/** A client of the document that the successor would not have. */
export interface LostClient {
  readonly kind: 'client';
  readonly server: 'virtlockd' | 'admin';
  readonly id: number;
  readonly fd: number;
}

/**
 * What would get lost. The daemon tells whether it has let go of that itself since it wrote the document, or it would be a loss:
 * see losses.ts.
 */
export type Loss = LostResource | LostClient;

/** So many are told at most. */
const MAX_LOSSES = 100;

/**
 * @param document read whole
 * @param taken the same, read as the successor does
 * @param pid the process that wrote it
 * @throws Error when the successor could not go on with it
 */
export function rehearse(document: StateDocument, taken: StateDocument, pid: number, version: VersionNumber): Loss[] {
  const look = new Look(pid, listenersOf(document));
  restrictPosix(look.functions);
  const daemon = restoreDaemon(settingsOf(version), { document: taken, late: null });
  const losses = [...lostClients(document, daemon), ...lostResources(document, daemon)];
  // What could not be looked at is not known to be lost.
  return losses.filter(({ fd }) => !look.unknown.has(fd)).slice(0, MAX_LOSSES);
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
      // Without a descriptor it stays held, but anybody may lock it then.
      if (!lockHeld || fd < 0 || (file?.locked === true && file.fd >= 0)) continue;
      yield { kind: 'resource', fd, key, since: holds?.[0]?.since };
    }
  }
}

function listenersOf({ lockServer, adminServer }: StateDocument): Set<number> {
  const services = [...lockServer.services, ...(adminServer?.services ?? [])];
  return new Set(services.flatMap(({ socks }) => socks.map(({ fd }) => fd)));
}

/** Looks at the descriptors of another process, where adoption looks at its own. */
class Look {
  readonly functions: Partial<Addon>;
  /** Descriptors that could not be looked at. */
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
    this.isPossible = whole.fileType(this.directory) >= 0;
    this.functions = {
      statFields: whole.statFields,
      statInode: (path) => whole.statInode(path),
      fileType: (path) => whole.fileType(path),
      exit: (status) => whole.exit(status),
      fstatInode: (fd) => this.fileAt(fd),
      inspectSocket: (fd, peer) => this.socketKind(fd, peer),
      // The rest is what adoption does to what it takes over. That is left as it is.
      socketPath: () => null,
      setNonblocking: () => 0,
      listenAgain: () => 0,
      setlk: () => 0,
      setOfdLock: () => 0,
      // Before Linux 5.11, the successor opens what has lost its descriptor again: see confirm.ts.
      openInode: () => -EIO,
      scanResources: (bytes, at, end, places) => whole.scanResources(bytes, at, end, places),
    };
  }

  /**
   * Adoption asks nothing of the file system of what it has open itself. By a path, that would be asked, and may not answer: so
   * where it is not local, no more is found out than whether there is something. That stays what is on record.
   */
  private fileAt(fd: number): number {
    let mayHang: boolean;
    try {
      const { mount } = descriptorInfo(this.pid, fd);
      // A link as `socket:[1]` leads to nothing that has a path.
      mayHang = !isLocalType(this.mounts.typeOf(mount)) && readlinkSync(`${this.directory}/${fd}`).startsWith('/');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && this.isPossible) return -EBADF;
      return this.notLooked(fd);
    }
    return mayHang ? this.notLooked(fd) : this.at(fd);
  }

  private notLooked(fd: number): number {
    this.unknown.add(fd);
    return -EIO;
  }

  private at(fd: number): number {
    const status = this.whole.statInode(`${this.directory}/${fd}`);
    if (status === -ENOENT && this.isPossible) return -EBADF;
    if (status < 0) this.unknown.add(fd);
    return status;
  }

  /** Which kind it is only shows from within its process, so of a socket the document is believed. */
  private socketKind(fd: number, peer: Int32Array): number {
    const status = this.at(fd);
    if (status < 0) return status;
    if ((lastStat().mode & constants.S_IFMT) !== constants.S_IFSOCK) return -ENOTSOCK;
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
    logging: new LogSettings(logging),
    life: { program: '', started: 0, executed: 0, restarts: 0, deaths: 0 },
    processes: NOBODY,
    onEnd: () => undefined,
  };
}

/** Nothing is found out of any process, nothing waited for, and none gets a signal. */
const NOBODY: ProcessHost = {
  ownPid: process.pid,
  ownStartTime: undefined,
  tellsPeers: true,
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
