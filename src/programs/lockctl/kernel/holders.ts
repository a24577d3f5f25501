/**
 * Finds who has locked a file that the daemon does not hold. This process may open and close the file: a close drops only the
 * locks of its own process, and this process has none.
 */
import { closeSync, constants, openSync, statSync } from 'node:fs';
import type { ByteString } from '../../../../xdr/codec.ts';
import { runChildAtOnce } from '../../../posix/child.ts';
import { LockType, posix } from '../../../posix/posix.ts';
import { guessOwner } from '../../../inquire/owners.ts';
import { toPath } from '../context.ts';
import { type FileId, fileIdOf } from '../../../proc/descriptors.ts';
import { coversFirstByte, descriptorLocks, isOnFile, type KernelLock, readLocks } from '../../../proc/locks.ts';
import { descriptorsOn } from '../../../proc/open-files.ts';
import { nameOf, processes } from '../../../proc/processes.ts';
import { mayHang } from '../../../proc/route.ts';

/** A process with a lock on the first byte. */
export interface Outsider {
  readonly pid: number;
  readonly kind: 'POSIX' | 'OFD';
  readonly access: string;
  /** The name of the program, and of the guest if it is a QEMU; empty when unknown. */
  readonly program: string;
  readonly guest: string;
}

/** The lock that prevents a lock on the first byte. */
export interface Obstacle {
  /** Null if there is none. `pid` is -1 if the kernel does not report it. */
  readonly lock: { readonly pid: number; readonly access: 'READ' | 'WRITE' } | null;
  /** Why the kernel could not be asked: the system's code. */
  readonly failure: string | null;
}

/** Asks by F_GETLK which lock prevents an exclusive (or shared) lock on byte 0. */
export function findObstacle(path: ByteString, shared: boolean): Obstacle {
  let fd: number;
  try {
    // O_RDONLY suffices for F_GETLK, and closing a block device that was open for writing would trigger udev.
    fd = openSync(toPath(path), constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    return { lock: null, failure: (error as NodeJS.ErrnoException).code ?? String(error) };
  }
  try {
    const out = new Int32Array(2);
    const status = posix.getlk(fd, shared ? LockType.READ : LockType.WRITE, 0, 1, out);
    if (status < 0) return { lock: null, failure: `errno ${-status}` };
    const [type, pid = -1] = out;
    if (type === LockType.UNLOCK) return { lock: null, failure: null };
    return { lock: { pid: pid > 0 ? pid : -1, access: type === LockType.READ ? 'READ' : 'WRITE' }, failure: null };
  } finally {
    closeSync(fd);
  }
}

export function fileId(path: ByteString): FileId | null {
  try {
    return fileIdOf(statSync(toPath(path), { bigint: true }));
  } catch {
    return null;
  }
}

/** The processes of this host that have locked the first byte. Those with OFD locks as far as /proc shows them. */
export function findOutsiders(file: FileId): Outsider[] {
  const rows = readLocks().filter((row) => row.inode === file.inode && coversFirstByte(row));
  const found: Outsider[] = [];
  for (const row of rows) {
    if (row.kind === 'POSIX') {
      // Other file systems have the same inode numbers, and some file systems have two device numbers.
      if (isOnFile(row, file) || descriptorsOfFile(row.pid, file).length > 0)
        found.push(outsider(row.pid, 'POSIX', row));
    } else if (row.kind === 'OFDLCK') {
      for (const pid of openersWithLock(file)) found.push(outsider(pid, 'OFD', row));
    }
  }
  const seen = new Set<string>();
  return found.filter(({ pid, kind }) => !seen.has(`${pid} ${kind}`) && seen.add(`${pid} ${kind}`));
}

/**
 * Whether the process that the kernel names, of a lock that is not in the table, is one of this host. Where the kernel knows all locks it
 * is: the lock may be too new to be in the table. Of another host, file systems name any process.
 */
export function isHere({ pid }: NonNullable<Obstacle['lock']>, path: ByteString, file: FileId): boolean {
  return pid > 0 && (!mayHang(path) || descriptorsOfFile(pid, file).length > 0);
}

function outsider(pid: number, kind: Outsider['kind'], { access }: KernelLock): Outsider {
  return { pid, kind, access, ...describeProcess(pid) };
}

export function describeProcess(pid: number): { program: string; guest: string } {
  return { program: programOf(pid), guest: guessOwner(pid, commandLineInTime(pid)).name };
}

/** The name of a process's program; empty when unknown. */
export function programOf(pid: number): string {
  try {
    return nameOf(pid);
  } catch {
    return '';
  }
}

/** How long a process may keep its command line to itself, in milliseconds: while it waits for storage in mmap nobody can read it. */
const COMMAND_LINE_MS = 500;

function commandLineInTime(pid: number): ByteString[] {
  try {
    const { output } = runChildAtOnce({ file: 'cat', args: [`/proc/${pid}/cmdline`], limit: COMMAND_LINE_MS });
    return output.split('\0').slice(0, -1);
  } catch {
    return [];
  }
}

/** systemd, which keeps duplicates of a service's descriptors. */
const KEEPER_PID = 1;

/** The processes that have an OFD lock on the first byte, by the fdinfo of their descriptors; without one that keeps it for another. */
function openersWithLock(file: FileId): number[] {
  const isLocked = (pid: number) => (descriptor: number) =>
    descriptorLocks(pid, descriptor).some((row) => row.kind === 'OFDLCK' && coversFirstByte(row));
  const found = processes().filter((pid) => descriptorsOfFile(pid, file).some(isLocked(pid)));
  return found.length > 1 ? found.filter((pid) => pid !== KEEPER_PID) : found;
}

/** Empty for a process that has ended or belongs to another user. */
function descriptorsOfFile(pid: number, file: FileId): number[] {
  try {
    return descriptorsOn(pid, file);
  } catch {
    return [];
  }
}
