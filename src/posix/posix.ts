/**
 * The system calls that Node.js lacks, typed. Every function returns the result of its call, or a negative errno: what
 * an errno means is for the caller to say, and libvirt's error texts depend on it.
 */
import os from 'node:os';
import path from 'node:path';
import type { ByteString } from '../../xdr/codec.ts';
import { insist } from './insist.ts';
import { installRoot } from './root.ts';

const { errno } = os.constants;

/** Types of record locks (fcntl.h). */
export const LockType = { READ: 0, WRITE: 1, UNLOCK: 2 } as const;
export type LockType = (typeof LockType)[keyof typeof LockType];

/** What {@link Addon.changeLock} has made of a lock, in the lowest bits. Shared: though it was exclusive. Of one that was kept, the errno is in the others. */
export const LockChange = { CHANGED: 0, CHANGED_SHARED: 1, KEPT_SHARED: 2, KEPT: 3, BITS: 2 } as const;

/** What happened in a round of the poller, as its records spell it; see {@link Addon.pollerStart}. */
export const PollRecord = { READ: 1, WRITABLE: 2, ACCEPT: 3, READY: 4, WORDS: 6 } as const;

/** A range for {@link Addon.sendAll}: descriptor, start, end. */
export const SendRange = { WORDS: 3 } as const;

/** What {@link Addon.inspectSocket} finds behind a descriptor; a negative errno when it is not open. */
export const SocketKind = { OTHER: 0, CONNECTED: 1, LISTENING: 2 } as const;

/** epoll's operations and event bits (sys/epoll.h). */
export const Epoll = { ADD: 1, DELETE: 2, MODIFY: 3, NONE: 0, IN: 1, OUT: 4 } as const;

/** In the place of a listener's index in {@link Addon.pollerSet}: no socket, but something else that may become readable. */
export const WATCHED = -1;

/** Types of files, as {@link Addon.fileType} returns them, and what masks them out of a mode (S_IF* of sys/stat.h). */
export const FileType = {
  CHARACTER: 0o020000,
  DIRECTORY: 0o040000,
  BLOCK: 0o060000,
  REGULAR: 0o100000,
  MASK: 0o170000,
} as const;

export interface Addon {
  /** F_SETLK on `length` bytes from `start`, without waiting. */
  setlk(fd: number, type: LockType, start: number, length: number): number;
  /** As {@link Addon.setlk}, by F_OFD_SETLK: the lock is the open file's, and lasts until the last descriptor of that is closed. */
  setOfdLock(fd: number, type: LockType, start: number, length: number): number;
  /** F_GETLK: out[0] is the type of lock in the way (UNLOCK: none), out[1] its holder's pid (-1: none known). */
  getlk(fd: number, type: LockType, start: number, length: number, out: Int32Array): number;
  /** As {@link Addon.getlk}, by F_OFD_GETLK: what is in the way of the open file, whose own OFD lock is not, though a POSIX one of ours is. */
  getOfdLock(fd: number, type: LockType, start: number, length: number, out: Int32Array): number;
  /** Changes the kind of the lock on byte 0: see record-lock.ts. Returns a {@link LockChange}. */
  changeLock(fd: number, shared: boolean, toOfd: boolean): number;
  /** What the last call that stats a file found: see {@link lastStat}. */
  readonly statFields: Float64Array;
  /** Opens a file with `flags` and stats it. Returns the descriptor. */
  openInode(path: ByteString, flags: number): number;
  /**
   * Locks byte 0 (read lock when `shared`; OFD lock when `isOfd`). 0; 1 when `path`, if given, no longer names the file that is open; 2 when it does, but
   * the file has no link.
   */
  lockNamed(fd: number, shared: boolean, path: ByteString | null, isOfd?: boolean): number;
  /**
   * Creates a file that was not there, locks it (by a POSIX lock) and stats it. -EEXIST also when it was gone or locked by another process
   * the moment after, or has no link. Returns the descriptor. Its path is `directory`, a slash and `name`, or `name` if that is empty.
   */
  createLocked(directory: ByteString, name: ByteString, shared: boolean): number;
  /** Unlinks the file that is open (named as in {@link createLocked}), unless the name is another one's. */
  unlinkOpen(directory: ByteString, name: ByteString, fd: number): number;
  /** Whether mounts of the process's namespace have changed since it was asked last; so also at first, and where it cannot be told. */
  mountsChanged(): boolean;
  /** Stats what `path` names. */
  statInode(path: ByteString): number;
  /** Stats what is open. */
  fstatInode(fd: number): number;
  unlink(path: ByteString): number;
  close(fd: number): number;
  /** Another descriptor of the same open file, close-on-exec. */
  duplicate(fd: number): number;
  /** A pidfd of the process that made the connection, dead or alive; -ENOPROTOOPT before Linux 6.5. */
  peerPidfd(fd: number): number;
  /** A pidfd of the process that has the pid now; -ESRCH when none has. */
  pidfdOpen(pid: number): number;
  pidfdSignal(pidfd: number, signal: number): number;
  /** When the process that has the pid now started, in clock ticks since the host's boot. */
  processStart(pid: number): number;
  /** Ends both directions of a connection: its peer sees that although the descriptor stays open. */
  shutdownSocket(fd: number): number;
  /** Makes one directory, mode 0700. */
  makeDirectory(path: ByteString): number;
  /** The file type bits (S_IFMT) of what `path` names. */
  fileType(path: ByteString): number;
  /**
   * Replaces this process. A C daemon gets the signals as it has them after an exec of its own, and SIGUSR1 ignored; ours gets the
   * mask as it is, and what waits. Returns only on failure: -EINTR when SIGTERM, SIGINT or SIGQUIT waits.
   */
  execve(path: [ByteString], args: readonly ByteString[], environment: readonly ByteString[], isC: boolean): number;
  /** Ends this process at once, as _exit: nothing that is still to be written or to be taken down is waited for. */
  exit(status: number): never;
  /** From now on signals wait: in this process, over exec, and in a program that launch.c has started. */
  blockSignals(): void;
  /** Delivers those that have waited. */
  releaseSignals(): void;
  /** Whether signals have waited while this program started: see guard.c. */
  isGuarded(): boolean;
  /**
   * Has signals ignored that mean nothing to a daemon and would end it. `onStray` is told of the first of each kind, with the
   * process that sent it (0: the kernel, or unknown).
   */
  ignoreStrays(onStray: (signal: number, sender: number) => void): number;
  /** Whether it is a terminal. Node.js has that too, behind a dozen modules that a start has no time for. */
  isTerminal(fd: number): boolean;
  /** Sets the name that ps and /proc/PID/comm show (at most 15 bytes). */
  setProcessName(name: ByteString): number;
  /** Gives memory that is not used back to the system. */
  trimMemory(): void;
  /** A listening, non-blocking UNIX stream socket. */
  listenUnix(path: ByteString, backlog: number): number;
  /** 0 when somebody listens at `path`; -ECONNREFUSED when the socket is a dead one. */
  probeUnix(path: ByteString): number;
  /** A connection on which reading and writing block, and fail with EAGAIN after so many milliseconds. */
  connectUnix(path: ByteString, milliseconds: number): number;
  /** Sends one datagram to a UNIX socket; a leading `@` means the abstract namespace. */
  sendDatagram(path: ByteString, data: Buffer): number;
  /** SO_PEERSEC: the peer's SELinux context, or null where there is none. */
  peerSecurity(fd: number): string | null;
  /** A descriptor's {@link SocketKind}; of a connection, the peer's pid, uid and gid go into `peer`. */
  inspectSocket(fd: number, peer: Int32Array): number;
  /** Changes the backlog of a listening socket. */
  listenAgain(fd: number, backlog: number): number;
  /** Where a UNIX socket is bound, or null. */
  socketPath(fd: number): ByteString | null;
  setNonblocking(fd: number): number;
  /** Sends `buffer` from `start` to `end` without waiting; returns the bytes taken. */
  send(fd: number, buffer: Buffer, start: number, end: number): number;
  /**
   * As {@link send} for `count` ranges of `buffer`, each of three words: descriptor (overwritten by the bytes taken or
   * -errno), start and end. Returns how many were not taken whole.
   */
  sendAll(buffer: Buffer, ranges: Int32Array, count: number): number;
  /**
   * Starts the poller. Each round it fills `records` with six words an event, received bytes into `input`, and calls
   * `onRound` with the number of records:
   *
   *     READ      fd  bytes (0: end of file, negative: -errno)  offset into input  1 if descriptors came with them
   *     WRITABLE  fd
   *     ACCEPT    listening fd  new fd (negative: -errno)  peer's pid  uid  gid
   *     READY     fd
   *
   * `budgets` holds how many connections each listening socket may still accept, and is counted down. `inherited` is an
   * epoll descriptor to go on with, or -1. Returns the epoll descriptor.
   */
  pollerStart(
    onRound: (count: number) => void,
    records: Int32Array,
    input: Buffer,
    budgets: Int32Array,
    inherited: number,
  ): number;
  /**
   * epoll_ctl on the poller's descriptor; ADD changes what hangs there already. `listener` is 0 for a connection,
   * {@link WATCHED} for what comes as READY, else 1 + its index into the budgets.
   */
  pollerSet(operation: number, fd: number, events: number, listener: number): number;
  /**
   * Finds the resources of a state document that follow each other between two places in its bytes. Tells as many as there is room
   * for, each by {@link ResourcePlace}, and returns how many; -1 when the text is not made of such.
   */
  scanResources(bytes: Buffer, from: number, to: number, places: Float64Array): number;
}

/** What {@link Addon.scanResources} tells of each resource: see scan.c. */
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

/** By dlopen itself: finding a module by its name takes a millisecond of every start. */
function loadAddon(): Addon {
  const module = { exports: {} };
  insist(() => {
    process.dlopen(module, path.join(installRoot, 'dist', 'posix.node'));
  });
  return module.exports as Addon;
}

export let posix: Addon = loadAddon();

/** From now on there are only these functions: any other throws an error. Returns the whole addon. */
export function restrictPosix(allowed: Partial<Addon>): Addon {
  const whole = posix;
  const get = (_: object, name: string): unknown =>
    name in allowed ? allowed[name as keyof Addon] : (): never => refuseCall(name);
  posix = new Proxy<object>({}, { get }) as Addon;
  return whole;
}

function refuseCall(name: string): never {
  throw new Error(`${name} may not be called here`);
}

/**
 * The message of strerror(3) in the C locale, which error replies repeat. Node.js has texts of its own for some; these
 * are glibc's.
 */
const STRERROR: Readonly<Record<number, string>> = {
  [errno.EPERM]: 'Operation not permitted',
  [errno.ENOENT]: 'No such file or directory',
  [errno.EINTR]: 'Interrupted system call',
  [errno.EIO]: 'Input/output error',
  [errno.ENXIO]: 'No such device or address',
  [errno.EBADF]: 'Bad file descriptor',
  [errno.EAGAIN]: 'Resource temporarily unavailable',
  [errno.ENOMEM]: 'Cannot allocate memory',
  [errno.EACCES]: 'Permission denied',
  [errno.EBUSY]: 'Device or resource busy',
  [errno.EEXIST]: 'File exists',
  [errno.EXDEV]: 'Invalid cross-device link',
  [errno.ENODEV]: 'No such device',
  [errno.ENOTDIR]: 'Not a directory',
  [errno.EISDIR]: 'Is a directory',
  [errno.EINVAL]: 'Invalid argument',
  [errno.ENFILE]: 'Too many open files in system',
  [errno.EMFILE]: 'Too many open files',
  [errno.ENOTTY]: 'Inappropriate ioctl for device',
  [errno.ETXTBSY]: 'Text file busy',
  [errno.EFBIG]: 'File too large',
  [errno.ENOSPC]: 'No space left on device',
  [errno.ESPIPE]: 'Illegal seek',
  [errno.EROFS]: 'Read-only file system',
  [errno.EMLINK]: 'Too many links',
  [errno.EPIPE]: 'Broken pipe',
  [errno.EDEADLK]: 'Resource deadlock avoided',
  [errno.ENAMETOOLONG]: 'File name too long',
  [errno.ENOLCK]: 'No locks available',
  [errno.ENOSYS]: 'Function not implemented',
  [errno.ENOTEMPTY]: 'Directory not empty',
  [errno.ELOOP]: 'Too many levels of symbolic links',
  [errno.EOVERFLOW]: 'Value too large for defined data type',
  [errno.EOPNOTSUPP]: 'Operation not supported',
  [errno.EADDRINUSE]: 'Address already in use',
  [errno.ENOBUFS]: 'No buffer space available',
  [errno.ENOTCONN]: 'Transport endpoint is not connected',
  [errno.ETIMEDOUT]: 'Connection timed out',
  [errno.ECONNREFUSED]: 'Connection refused',
  [errno.ECONNRESET]: 'Connection reset by peer',
  [errno.ESTALE]: 'Stale file handle',
  [errno.EDQUOT]: 'Disk quota exceeded',
  [errno.ESRCH]: 'No such process',
  [errno.E2BIG]: 'Argument list too long',
  [errno.ENOEXEC]: 'Exec format error',
};

/** glibc's text for an errno (positive or, as the functions here return it, negative). */
export function strerror(error: number): string {
  const code = Math.abs(error);
  return STRERROR[code] ?? `Unknown error ${code}`;
}

/** An inode's number. Only NFS has such as a number of JavaScript cannot hold. */
export type InodeNumber = number | bigint;

/** What is known of a file. */
export interface Stat {
  readonly device: number;
  readonly inode: InodeNumber;
  readonly mode: number;
  /** The number of a block device; else 0. */
  readonly blockDevice: number;
  readonly links: number;
}

/** What the last call that stats a file found: to be read in the line behind that call. */
export function lastStat(): Stat {
  const [device = 0, high = 0, low = 0, mode = 0, blockDevice = 0, links = 0] = posix.statFields;
  return { device, inode: inodeNumber(high, low), mode, blockDevice, links };
}

function inodeNumber(high: number, low: number): InodeNumber {
  return high < 0x20_0000 ? high * 0x1_0000_0000 + low : (BigInt(high) << 32n) + BigInt(low);
}

/** The inode key of a file: equal for equal files only. */
export function inodeKey({ device, inode }: Pick<Stat, 'device' | 'inode'>): string {
  const high = typeof inode === 'number' ? Math.floor(inode / 0x1_0000_0000) : Number(inode >> 32n);
  const low = typeof inode === 'number' ? inode % 0x1_0000_0000 : Number(inode & 0xffff_ffffn);
  return `${device}:${high === 0 ? '' : high}:${low}`;
}

/** What an inode key was made of. Null when the text is none. */
export function parseInodeKey(key: string): { device: number; inode: InodeNumber } | null {
  const parts = /^(\d{1,16}):(\d{0,10}):(\d{1,10})$/.exec(key);
  if (parts === null) return null;
  const [device, high, low] = parts.slice(1).map(Number);
  return { device: device ?? 0, inode: inodeNumber(high ?? 0, low ?? 0) };
}
