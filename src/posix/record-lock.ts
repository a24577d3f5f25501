/**
 * The lock of a held resource: byte 0 of its file, length 1, of one of two kinds.
 *
 * - `posix` (F_SETLK, as C takes it) belongs to the process. It ends with the process, or when the process closes any descriptor of the
 *   inode.
 * - `ofd` (F_OFD_SETLK) belongs to the open file. It ends when the last duplicate of the descriptor is closed, in whichever process, or
 *   with an unlock through any duplicate, also a child's.
 *
 * The two kinds conflict as locks of two processes do, also within one process.
 */
import { LockChange, LockType, posix } from './posix.ts';

export type LockKind = 'posix' | 'ofd';

/** Sets the lock without waiting. Returns 0 or -errno: -EAGAIN or -EACCES when another lock conflicts. */
export function setLock(kind: LockKind, fd: number, type: LockType): number {
  return kind === 'ofd' ? posix.setOfdLock(fd, type, 0, 1) : posix.setlk(fd, type, 0, 1);
}

const found = new Int32Array(2);

/** The pid of the process whose lock conflicts; -1 when it is unknown (an OFD lock, another host), or has released the lock. */
export function findRival(kind: LockKind, fd: number, shared: boolean): number {
  const type = shared ? LockType.READ : LockType.WRITE;
  const status = kind === 'ofd' ? posix.getOfdLock(fd, type, 0, 1, found) : posix.getlk(fd, type, 0, 1, found);
  const [inTheWay, pid = -1] = found;
  return status < 0 || inTheWay === LockType.UNLOCK || pid <= 0 ? -1 : pid;
}

/** The lock after {@link changeLock}. */
interface ChangedLock {
  readonly kind: LockKind;
  /** An exclusive lock is only shared: another process took a shared lock, or an error kept this one from becoming exclusive again. */
  readonly degraded: boolean;
  /** Why the kind has not changed (positive); 0 when it has. */
  readonly errno: number;
}

/**
 * Changes the kind of a held lock. Four steps, in one call: make it shared, take a shared lock of the other kind, drop the first one, and
 * make the other exclusive. So the file is locked at every instant, and no other process can take an exclusive lock. The result is one of:
 *
 *     of the new kind, shared or exclusive as before
 *     of the new kind and degraded: another process took a shared lock in between, so the kernel refused the last step
 *     of the old kind, as before, with an errno: the kernel or the file system refused a step (it has no OFD locks, or no memory for one)
 *     of the old kind and degraded, with an errno: the same, and another process took a shared lock in between
 *
 * A degraded lock keeps exclusive ones out. {@link setLock} makes it exclusive once no other lock conflicts. So does a change of a degraded
 * lock.
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
