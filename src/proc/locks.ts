/** The kernel's table of locks, /proc/locks, and the locks and the mount of one descriptor. */
import { readFileSync } from 'node:fs';
import { type FileId, openDescriptors } from './descriptors.ts';
import { type Process, unlessGone } from './processes.ts';

/** A lock that is held. */
export interface KernelLock {
  readonly kind: 'POSIX' | 'OFDLCK' | 'FLOCK' | 'LEASE' | 'DELEG';
  readonly access: 'READ' | 'WRITE' | 'UNLCK';
  /** -1 for OFD locks; 0 where the holder is in another pid namespace or on another host. */
  readonly pid: number;
  /** The file system's device number: for btrfs and some overlays not the one that stat returns. */
  readonly major: number;
  readonly minor: number;
  readonly inode: bigint;
  readonly start: bigint;
  /** The last byte; null: to the end of the file, however it grows. */
  readonly end: bigint | null;
}

const ROW =
  /^\s*(?:lock:\s*)?\d+: (POSIX|OFDLCK|FLOCK|LEASE|DELEG)\s+(?:ADVISORY|MANDATORY|ACTIVE|BREAKING|BREAKER|MSNFS)\s+(\w+)\s+(-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) (\d+) (\d+|EOF)$/gm;

/** Every row of a table in the form of /proc/locks, but those of waiters, which have an arrow. */
export function parseLocks(text: string): KernelLock[] {
  const locks: KernelLock[] = [];
  for (const [, kind, access, pid, major = '', minor = '', inode = '', start = '', end = ''] of text.matchAll(ROW)) {
    locks.push({
      kind: kind as KernelLock['kind'],
      access: access as KernelLock['access'],
      pid: Number(pid),
      major: parseInt(major, 16),
      minor: parseInt(minor, 16),
      inode: BigInt(inode),
      start: BigInt(start),
      end: end === 'EOF' ? null : BigInt(end),
    });
  }
  return locks;
}

/** The kernel writes the table page by page: while others lock and unlock, rows may be missing or there twice. */
export function readLocks(): KernelLock[] {
  return parseLocks(readFileSync('/proc/locks', 'latin1'));
}

/** So often the table is read, if others lock and unlock all the time. */
const READINGS = 20;

/** The POSIX locks of a process, and the OFD locks of its open files: of those the table names no process. */
export function recordLocksOf(pid: number): KernelLock[] {
  const rows = readLocks();
  const locks = rows.filter((row) => row.kind === 'POSIX' && row.pid === pid);
  if (!rows.some(({ kind }) => kind === 'OFDLCK')) return locks;
  const descriptors = unlessGone(() => openDescriptors(pid)) ?? [];
  const opened = descriptors.flatMap((fd) => descriptorLocks(pid, fd));
  return [...locks, ...opened.filter(({ kind }) => kind === 'OFDLCK')];
}

/**
 * As {@link recordLocksOf}, by texts that are equal for equal locks, of whichever kind. Reads the table until two readings
 * agree.
 */
export function steadyLocksOf(pid: number): Map<string, KernelLock> {
  const read = (): Map<string, KernelLock> => new Map(recordLocksOf(pid).map((row) => [lockText(row), row]));
  let rows = read();
  for (let readings = 1; readings < READINGS; readings++) {
    const again = read();
    const agree = again.size === rows.size && [...again.keys()].every((row) => rows.has(row));
    rows = again;
    if (agree) break;
  }
  return rows;
}

function lockText({ access, major, minor, inode, start, end }: KernelLock): string {
  return `${access} ${major}:${minor}:${inode} ${start}-${end ?? 'end'}`;
}

/** Read without asking the file system. */
export interface DescriptorInfo {
  /** Exact, unlike the table. */
  readonly locks: readonly KernelLock[];
  /** The id of its mount: see mounts.ts. */
  readonly mount: number;
  /** As of open(2). */
  readonly flags: number;
  /** Null before Linux 5.14. */
  readonly inode: bigint | null;
}

/** @throws Error when there is no such descriptor, or /proc cannot be read */
export function descriptorInfo(process: Process, descriptor: number): DescriptorInfo {
  const text = readFileSync(`/proc/${process}/fdinfo/${descriptor}`, 'latin1');
  const inode = /^ino:\s*(\d+)$/m.exec(text)?.[1];
  return {
    locks: parseLocks(text),
    mount: Number(/^mnt_id:\s*(\d+)$/m.exec(text)?.[1] ?? -1),
    flags: parseInt(/^flags:\s*(\d+)$/m.exec(text)?.[1] ?? '0', 8),
    inode: inode === undefined ? null : BigInt(inode),
  };
}

/** The locks of one descriptor of a process. Empty when they cannot be read. */
export function descriptorLocks(pid: number, descriptor: number): readonly KernelLock[] {
  try {
    return descriptorInfo(pid, descriptor).locks;
  } catch {
    return [];
  }
}

/** The major and minor numbers in a device number of stat (glibc's layout). */
export function splitDevice(device: number): { major: number; minor: number } {
  const high = Math.floor(device / 0x1_0000_0000);
  const low = device >>> 0;
  return {
    major: ((low >>> 8) & 0xfff) + (high & 0xfffff000),
    minor: (low & 0xff) + ((device / 0x1000) & 0xffffff00),
  };
}

/** Whether the row's file is this one. Always false on file systems whose device number is not stat's: see {@link KernelLock.major}. */
export function isOnFile(lock: KernelLock, { device, inode }: FileId): boolean {
  return lock.inode === inode && isOnDevice(lock, device);
}

/** Whether the row's file, or the mount, is of this file system. */
export function isOnDevice({ major, minor }: Pick<KernelLock, 'major' | 'minor'>, number: number): boolean {
  const device = splitDevice(number);
  return major === device.major && minor === device.minor;
}

/**
 * Whether it is a lock of fcntl, of either kind. The kernel records an OFD lock as a POSIX one if the NFSv4 server has put the request off, as it
 * does in its grace period: the client, when it asks again, has forgotten the kind (seen with Linux 5.10 and 6.1). The open file is its owner
 * all the same, so it lives and ends as an OFD lock does.
 */
export function isRecordLock({ kind }: Pick<KernelLock, 'kind'>): boolean {
  return kind === 'POSIX' || kind === 'OFDLCK';
}

/** Whether a lock covers the one byte that lock daemons lock. */
export function coversFirstByte({ start, end }: KernelLock): boolean {
  return start === 0n && (end === null || end >= 0n);
}
