/**
 * The lock by which a resource is held: byte 0 of its file, length 1, by either of two kinds.
 *
 * - `posix` (F_SETLK, as C takes it) is the process's: it ends with the process, and with any close of any descriptor of the inode.
 * - `ofd` (F_OFD_SETLK) is the open file's: it ends with the last duplicate of the descriptor, wherever that is, or with an unlock
 *   through any of them, a child's too.
 *
 * Both keep each other out as two processes would, also within one process.
 */
import { LockChange, LockType, posix } from './posix.ts';

export type LockKind = 'posix' | 'ofd';

/** Sets the lock without waiting. Returns 0 or -errno: -EAGAIN or -EACCES when another one is in the way. */
export function setLock(kind: LockKind, fd: number, type: LockType): number {
  return kind === 'ofd' ? posix.setOfdLock(fd, type, 0, 1) : posix.setlk(fd, type, 0, 1);
}

const found = new Int32Array(2);

/** The process whose lock is in the way, or -1: it is not known (an OFD lock, another host), or let go. */
export function findRival(kind: LockKind, fd: number, shared: boolean): number {
  const type = shared ? LockType.READ : LockType.WRITE;
  const status = kind === 'ofd' ? posix.getOfdLock(fd, type, 0, 1, found) : posix.getlk(fd, type, 0, 1, found);
  const [inTheWay, pid = -1] = found;
  return status < 0 || inTheWay === LockType.UNLOCK || pid <= 0 ? -1 : pid;
}

/** What {@link changeLock} has left. */
export interface ChangedLock {
  readonly kind: LockKind;
  /** It was to be exclusive, and is shared: somebody else's shared one came in, or an error kept it from being made exclusive again. */
  readonly degraded: boolean;
  /** Why the kind is what it was (positive); 0 when it has changed. */
  readonly errno: number;
}

/**
 * Makes a lock that is held one of the other kind. Four steps, in one call: it is made shared, doubled by a shared one of the other kind,
 * dropped, and the other one made exclusive. So it is never free, and no exclusive one of somebody else comes in. What it may be
 * afterwards:
 *
 *     of the new kind, as it was
 *     of the new kind and degraded: a shared one came in between the first step and the last, and the last one was refused
 *     of the old kind, as it was, with an errno: the kernel or the file system refuses a step (it has no OFD locks, or no room for one)
 *     of the old kind and degraded: the same, and a shared one came in before it was exclusive again
 *
 * A degraded one keeps exclusive ones out. {@link setLock} makes it exclusive once it can be. To change one that is degraded already is
 * the same: it ends as exclusive if that can be.
 */
export function changeLock(fd: number, shared: boolean, to: LockKind): ChangedLock {
  const from = to === 'ofd' ? 'posix' : 'ofd';
  const status = posix.changeLock(fd, shared, to === 'ofd');
  const errno = status >> LockChange.BITS;
  switch (status & ((1 << LockChange.BITS) - 1)) {
    case LockChange.CHANGED:
      return { kind: to, degraded: false, errno };
    case LockChange.CHANGED_SHARED:
      return { kind: to, degraded: true, errno };
    case LockChange.KEPT_SHARED:
      return { kind: from, degraded: true, errno };
    default:
      return { kind: from, degraded: false, errno };
  }
}
