/**
 * The system calls that Node.js lacks, typed. Every function returns the result of its call, or a negative errno: the caller
 * decides what that means, and libvirt's error texts repeat it.
 */
import { join } from 'node:path';
import type { ByteString } from '../../xdr/codec.ts';
import { insist } from './insist.ts';
import { installRoot } from './root.ts';

/** Types of record locks (fcntl.h). */
export const LockType = { READ: 0, WRITE: 1, UNLOCK: 2 } as const;
export type LockType = (typeof LockType)[keyof typeof LockType];

/**
 * What {@link Addon.useMarks} says of a connection: its reply may have begun to be sent (either of two bits); all that was read of it
 * has been served, so the mark goes with the reply; there is a mark; and above these bits the number of the round in which its input
 * was read. No single bit that is wrong makes two of these out of each other, but for a round.
 */
export const CallMark = { BEGUN: 5, CONSUMED: 2, PRESENT: 8, ROUND_SHIFT: 4 } as const;

/** What {@link Addon.changeLock} has made of a lock, in the lowest bits. Shared: though it was exclusive. Of one that was kept, the errno is in the others. */
export const LockChange = { CHANGED: 0, CHANGED_SHARED: 1, KEPT_SHARED: 2, KEPT: 3, BITS: 2 } as const;

/** Kinds of the poller's records, and the size of one: see {@link Addon.pollerStart}. */
export const PollRecord = { READ: 1, WRITABLE: 2, ACCEPT: 3, READY: 4, WORDS: 6 } as const;

/** A range of {@link Addon.sendAll}: descriptor, start, end. */
export const SendRange = { WORDS: 3 } as const;

/** Results of {@link Addon.inspectSocket}. */
export const SocketKind = { OTHER: 0, CONNECTED: 1, LISTENING: 2 } as const;

/** Descriptors in one message of {@link Addon.sendFiles}, at most: the kernel's SCM_MAX_FD. */
export const MAX_PASSED = 253;

/** epoll's operations and event bits (sys/epoll.h). */
export const Epoll = { ADD: 1, DELETE: 2, MODIFY: 3, NONE: 0, IN: 1, OUT: 4 } as const;

/** In the place of a listener's index in {@link Addon.pollerSet}: no socket, but another descriptor that becomes readable. */
export const WATCHED = -1;

/** Types of files (S_IF* of sys/stat.h). */
export const FileType = {
  CHARACTER: 0o020000,
  DIRECTORY: 0o040000,
  BLOCK: 0o060000,
  REGULAR: 0o100000,
  SOCKET: 0o140000,
} as const;

export interface Addon {
  /** F_SETLK on `length` bytes from `start`, without waiting. */
  setlk(fd: number, type: LockType, start: number, length: number): number;
  /** As {@link Addon.setlk}, by F_OFD_SETLK: the lock is the open file's, and lasts until its last descriptor is closed. */
  setOfdLock(fd: number, type: LockType, start: number, length: number): number;
  /** F_GETLK: out[0] is the type of the conflicting lock (UNLOCK: none), out[1] its holder's pid (-1: not known). */
  getlk(fd: number, type: LockType, start: number, length: number, out: Int32Array): number;
  /** As {@link Addon.getlk}, by F_OFD_GETLK: the open file's own OFD lock is not in its way, though a POSIX lock of the process is. */
  getOfdLock(fd: number, type: LockType, start: number, length: number, out: Int32Array): number;
  /** Changes the kind of the lock on byte 0: see record-lock.ts. Returns a {@link LockChange}. */
  changeLock(fd: number, shared: boolean, toOfd: boolean): number;
  /** The result of the last call that stats a file: see {@link lastStat}. */
  readonly statFields: Float64Array;
  /** Opens a file with `flags` and stats it. Returns the descriptor. */
  openInode(path: ByteString, flags: number): number;
  /**
   * Locks byte 0 (read lock when `shared`, OFD lock when `isOfd`). Returns 0; 1 when `path`, if given, no longer names the open file; 2 when it does, but
   * the file has no link.
   */
  lockNamed(fd: number, shared: boolean, path: ByteString | null, isOfd?: boolean): number;
  /**
   * Creates a file that does not exist, locks it by a POSIX lock and stats it. Returns the descriptor; -EEXIST also when another process
   * unlinks or locks it at once, or it has no link. Its path is `directory`, a slash and `name`; just `name` if the directory is empty.
   */
  createLocked(directory: ByteString, name: ByteString, shared: boolean): number;
  /** Unlinks the open file (named as in {@link createLocked}), unless the name is another file's by now. */
  unlinkOpen(directory: ByteString, name: ByteString, fd: number): number;
  /** Whether mounts of the process's namespace have changed since the last call; true also at the first one, and where /proc is not mounted. */
  mountsChanged(): boolean;
  statInode(path: ByteString): number;
  fstatInode(fd: number): number;
  unlink(path: ByteString): number;
  /** Where a symbolic link leads; -EINVAL when it is none. */
  readLink(path: ByteString): ByteString | number;
  close(fd: number): number;
  /** Another descriptor of the same open file, close-on-exec. */
  duplicate(fd: number): number;
  /** A pidfd, readable once the process is gone, of the one that connected, dead or alive; -ENOPROTOOPT before Linux 6.5. */
  peerPidfd(fd: number): number;
  /** A pidfd of the present process with this pid; -ESRCH when there is none. */
  pidfdOpen(pid: number): number;
  pidfdSignal(pidfd: number, signal: number): number;
  /** When the present process with this pid started, in clock ticks since boot. */
  processStart(pid: number): number;
  /** Ends both directions of a connection: its peer sees the end, and the descriptor stays open. */
  shutdownSocket(fd: number): number;
  /**
   * Whether the peer of a connection has ended it, or {@link shutdownSocket} has.
   *
   * @param directions 1: its own direction is enough; 2: both
   */
  hasHungUp(fd: number, directions: 1 | 2): boolean;
  /** Makes one directory, mode 0700. */
  makeDirectory(path: ByteString): number;
  /**
   * Replaces this process. A C daemon gets the dispositions and the mask that it has after an exec of its own, but SIGUSR1 ignored;
   * a program of ours gets the mask as it is, and the pending signals. Returns only on failure: -EINTR when SIGTERM, SIGINT or
   * SIGQUIT is pending; -EBUSY when a child has shared the descriptors for 2 s.
   */
  execve(path: [ByteString], args: readonly ByteString[], environment: readonly ByteString[], isC: boolean): number;
  /**
   * Starts the first of `files` that can be executed, in `directory` (empty: in the daemon's own), and waits for nothing. The program
   * has four descriptors at most: `streams` has this process's for each, -1 for /dev/null, -2 for none. Returns the pid. When none can be executed the last of
   * its streams that is not a standard one of this process gets a NUL and the errno.
   */
  spawn(
    files: readonly ByteString[],
    args: readonly ByteString[],
    environment: readonly ByteString[],
    directory: ByteString,
    streams: Int32Array,
  ): number;
  /** The exit status of a child that has ended, or 256 and its signal; -EAGAIN while it runs. */
  reap(pid: number): number;
  /** A file in memory, which a child may write into. */
  createBuffer(): number;
  /** A pipe: its reading end, and its writing end, which does not wait. */
  createPipe(ends: Int32Array): number;
  /** See {@link strerror}. */
  strerror(error: number): string;
  /** As _exit: no exit handlers, no flushing. */
  exit(status: number): never;
  /** Signals stay pending from now on: in this process, over exec, and in a program that launch.c starts. */
  blockSignals(): void;
  /** Delivers the pending ones. */
  releaseSignals(): void;
  /** Whether signals were blocked while this program started: see guard.c. */
  isGuarded(): boolean;
  /**
   * Ignores signals that have no meaning for a daemon and would end it. Calls `onStray` for the first of each kind, with the pid of
   * its sender (0: the kernel, or unknown).
   */
  ignoreStrays(onStray: (signal: number, sender: number) => void): number;
  /** Whether it is a terminal. Node.js has that too, but loads a dozen modules for it, which delays a start. */
  isTerminal(fd: number): boolean;
  /** Sets the name that ps and /proc/PID/comm show (at most 15 bytes). */
  setProcessName(name: ByteString): number;
  /** Returns unused memory, and the pages of the runtime's program, to the system. */
  trimMemory(): void;
  /** A listening, non-blocking UNIX stream socket. */
  listenUnix(path: ByteString, backlog: number): number;
  /** 0 when a process listens at `path`; -ECONNREFUSED when the socket is a dead one. */
  probeUnix(path: ByteString): number;
  /** A blocking connection, on which reading and writing fail with EAGAIN after so many milliseconds. */
  connectUnix(path: ByteString, milliseconds: number): number;
  /** Sends one datagram to a UNIX socket; a leading `@` means the abstract namespace. */
  sendDatagram(path: ByteString, data: Buffer): number;
  /** SO_PEERSEC: the peer's SELinux context, or null where there is none. */
  peerSecurity(fd: number): string | null;
  /** A descriptor's {@link SocketKind}. Of a connection, the peer's pid, uid and gid go into `peer`. */
  inspectSocket(fd: number, peer: Int32Array): number;
  /** A connection that waits at a listening socket, non-blocking and close-on-exec; -errno when there is none. */
  accept(listener: number): number;
  /** Changes the backlog of a listening socket. */
  listenAgain(fd: number, backlog: number): number;
  /**
   * Where, by descriptor, it is written what of each connection has been read and not been answered: see {@link CallMark}. Written
   * before anything is read or sent. Null: nowhere. Rounds are counted on from `round`, unless that is negative.
   */
  useMarks(words: Uint32Array | null, round: number): void;
  /** Memory of so many bytes that a descriptor stands for, all of it there, none of it to be taken away. Returns the descriptor. */
  createMemory(size: number): number;
  /** That memory, as it is and stays. -EINVAL: the descriptor is not of such. */
  mapMemory(fd: number): ArrayBuffer | number;
  /**
   * Writes an entry: the CRC-32 of the next word and the text, the length of the text, the text as latin1. Returns where the next
   * goes; -ENOSPC when there is no room.
   */
  writeEntry(memory: Uint8Array, at: number, text: string): number;
  /** Returns where the text of the entry ends that begins there; -EBADMSG when it is not whole, or not before `end`. */
  readEntry(memory: Uint8Array, at: number, end: number): number;
  /** As zlib's. */
  crc32(memory: Uint8Array, from: number, to: number): number;
  /** A socket for {@link sendManager}; a leading `@` means the abstract namespace. */
  connectManager(path: ByteString): number;
  /**
   * Sends at most 255 bytes, and a descriptor if that is not negative. When the queue is full it waits for so many milliseconds
   * at most: -EAGAIN.
   */
  sendManager(socket: number, text: string, fd: number, milliseconds: number): number;
  /** A queue for {@link sendFiles}: a datagram socket that is connected to itself. */
  createQueue(): number;
  /**
   * Sends one message with `count` descriptors, at most {@link MAX_PASSED}, and a word for each. -EAGAIN when the queue is full; a
   * reserve is left for a replacement, a message behind which others are removed.
   */
  sendFiles(queue: number, names: Uint32Array, fds: Int32Array, count: number, isReplacement: boolean): number;
  /**
   * Reads the first message of a queue, or the one after that of the last call, and leaves it there. Returns how many words it has;
   * -EAGAIN behind the last one. With `fds` also opens a descriptor for each word; -1 for a word without one.
   */
  peekFiles(queue: number, isFirst: boolean, names: Uint32Array, fds: Int32Array | null): number;
  /** Removes the first message, whose descriptors the kernel releases: no lock of the process goes with them, as it would at a close. */
  popFiles(queue: number): number;
  /** Two ends of a connection that keeps messages whole, as `out[0]` and `out[1]`. */
  packetPair(out: Int32Array): number;
  /** Sends the first `length` bytes as one message, without waiting; also a descriptor, unless that is negative. */
  sendPacket(fd: number, buffer: Buffer, length: number, attached?: number): number;
  /** Receives a message without waiting. Returns its length, 0 at the end; `out[0]`: the descriptor that came with it, or -1. */
  receivePacket(fd: number, buffer: Buffer, out: Int32Array): number;
  /** CLOCK_BOOTTIME, which counts while the host is suspended, in milliseconds with fractions. */
  boottime(): number;
  /** Where a UNIX socket is bound, or null. */
  socketPath(fd: number): ByteString | null;
  setNonblocking(fd: number): number;
  /** Sends `buffer` from `start` to `end` without waiting; returns the bytes sent. */
  send(fd: number, buffer: Buffer, start: number, end: number): number;
  /**
   * As {@link send} for `count` ranges of `buffer`, each of three words: descriptor (overwritten by the bytes sent or
   * -errno), start and end. Returns how many were not sent whole.
   */
  sendAll(buffer: Buffer, ranges: Int32Array, count: number): number;
  /**
   * Starts the poller. Each round it writes six words an event into `records` and received bytes into `input`, and calls
   * `onRound` with the number of records:
   *
   *     READ      fd  bytes (0: end of file, negative: -errno)  offset into input  1 if descriptors came with them
   *     WRITABLE  fd
   *     ACCEPT    listening fd  new fd (negative: -errno)  peer's pid  uid  gid
   *     READY     fd
   *
   * `budgets` counts down how many connections each listening socket may still accept; behind them are the descriptors at which that ends. `inherited` is an epoll descriptor to go
   * on with, or -1. Returns the epoll descriptor.
   */
  pollerStart(
    onRound: (count: number) => void,
    records: Int32Array,
    input: Buffer,
    budgets: Int32Array,
    inherited: number,
  ): number;
  /**
   * epoll_ctl on the poller's descriptor; ADD changes a descriptor that is registered already. `listener` is 0 for a connection,
   * {@link WATCHED} for a descriptor that is reported as READY, else 1 + its index into the budgets.
   */
  pollerSet(operation: number, fd: number, events: number, listener: number): number;
  /**
   * Finds the resources of a state document between two places in its bytes. Fills `places`, of each as {@link ResourcePlace}
   * says, and returns how many it found; -1 when the text there is none of resources.
   */
  scanResources(bytes: Buffer, from: number, to: number, places: Float64Array): number;
}

/** What {@link Addon.scanResources} reports of each resource: see scan.c. */
export const ResourcePlace = {
  BEGIN: 0,
  END: 1,
  FD: 2,
  NAME: 3,
  NAME_END: 4,
  PATH: 5,
  PATH_END: 6,
  FLAGS: 7,
  PID: 8,
  OWNER: 9,
  OWNER_END: 10,
  SINCE: 11,
  CLIENT: 12,
  START: 13,
  INODE: 14,
  INODE_END: 15,
  OFD: 16,
  FIELDS: 17,
} as const;

/** By dlopen itself: to find a module by its name takes a millisecond of every start. */
function loadAddon(): Addon {
  const module = { exports: {} };
  insist(() => process.dlopen(module, join(installRoot, 'dist', 'posix.node')));
  return module.exports as Addon;
}

const native = loadAddon();
export let posix: Addon = native;

/** Replaces {@link posix} by these functions: any other throws an error. */
export function restrictPosix(allowed: Partial<Addon>): void {
  const refuse = (name: string): never => {
    throw new Error(`${name} may not be called here`);
  };
  const get = (_: object, name: string): unknown =>
    name in allowed ? allowed[name as keyof Addon] : () => refuse(name);
  posix = new Proxy<object>({}, { get }) as Addon;
}

/** strerror(3)'s text for an errno, positive or negative, in the C locale: libvirt's errors repeat it, and Node's differ. */
export function strerror(error: number): string {
  return native.strerror(Math.abs(error));
}

/** A bigint where a number cannot hold it, as with NFS. */
export type InodeNumber = number | bigint;

export interface Stat {
  readonly device: number;
  readonly inode: InodeNumber;
  /** A {@link FileType}, or another one. */
  readonly type: number;
  /** The number of a block device; else 0. */
  readonly blockDevice: number;
  readonly links: number;
}

/** The result of the last call that stats a file: to be read in the line behind that call. */
export function lastStat(): Stat {
  const [device = 0, high = 0, low = 0, type = 0, blockDevice = 0, links = 0] = posix.statFields;
  return { device, inode: inodeNumber(high, low), type, blockDevice, links };
}

/** The {@link FileType} of a file, or a negative errno. */
export function fileType(path: ByteString): number {
  const status = posix.statInode(path);
  return status < 0 ? status : lastStat().type;
}

export function inodeNumber(high: number, low: number): InodeNumber {
  return high < 0x20_0000 ? high * 0x1_0000_0000 + low : (BigInt(high) << 32n) + BigInt(low);
}

/** The inode key of a file: equal for equal files only. */
export function inodeKey({ device, inode }: Pick<Stat, 'device' | 'inode'>): string {
  const high = typeof inode === 'number' ? Math.floor(inode / 0x1_0000_0000) : Number(inode >> 32n);
  const low = typeof inode === 'number' ? inode % 0x1_0000_0000 : Number(inode & 0xffff_ffffn);
  return `${device}:${high === 0 ? '' : high}:${low}`;
}

/** Null when the text is no inode key. */
export function parseInodeKey(key: string): { device: number; inode: InodeNumber } | null {
  const parts = /^(\d{1,16}):(\d{0,10}):(\d{1,10})$/.exec(key);
  if (parts === null) return null;
  const [device, high, low] = parts.slice(1).map(Number);
  return { device: device ?? 0, inode: inodeNumber(high ?? 0, low ?? 0) };
}
