/** Open descriptors of processes, from /proc/PID/fd. */
import { type BigIntStats, readdirSync, readlinkSync, statSync } from 'node:fs';
import type { ByteString } from '../../xdr/codec.ts';
import { insist } from '../posix/insist.ts';
import { isGone, type Process, unlessGone } from './processes.ts';

/** As stat's st_dev and st_ino. */
export interface FileId {
  readonly device: number;
  readonly inode: bigint;
}

/** Node.js gives inode numbers a sign, and GlusterFS, NFS and others use all 64 bits. */
export function fileIdOf({ dev, ino }: Pick<BigIntStats, 'dev' | 'ino'>): FileId {
  return { device: Number(dev), inode: BigInt.asUintN(64, ino) };
}

/** A descriptor of a process. */
export interface OpenDescriptor {
  readonly pid: number;
  readonly fd: number;
}

export function descriptorDirectory(pid: Process): string {
  return `/proc/${pid}/fd`;
}

/** A link to an open file: to open it opens the file again, and to stat it asks the file system. */
export function descriptorPath(pid: Process, fd: number): string {
  return `/proc/${pid}/fd/${fd}`;
}

/** A process's descriptors, some of which may be closed by now. @throws Error when it is gone, or another user's */
export function openDescriptors(pid: Process): number[] {
  return readdirSync(descriptorDirectory(pid)).map(Number);
}

/** How many descriptors this process has open; 0 before Linux 6.2. */
export function ownDescriptorCount(): number {
  return statSync(descriptorDirectory('self')).size;
}

/**
 * A process's descriptors with their names in /proc: a path, or for example `socket:[INODE]`. Without those that were closed since,
 * or have a path too long for the kernel to report.
 */
export function* openedBy(pid: Process): Generator<readonly [fd: number, name: ByteString]> {
  for (const fd of openDescriptors(pid)) {
    const name = unlessGone(() => nameOf(pid, fd));
    if (name !== undefined) yield [fd, name];
  }
}

function nameOf(pid: Process, fd: number): ByteString | undefined {
  try {
    return readlinkSync(descriptorPath(pid, fd), 'latin1');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENAMETOOLONG') return undefined;
    throw error;
  }
}

/** Whether a descriptor of this process is an epoll's. */
export function isEpoll(fd: number): boolean {
  try {
    return (
      insist(
        () => nameOf('self', fd),
        (error) => !isGone(error),
      ) === 'anon_inode:[eventpoll]'
    );
  } catch {
    return false;
  }
}

/** The inodes of a process's sockets. */
export function socketsOf(pid: Process): Set<string> {
  const inodes = new Set<string>();
  for (const [, name] of openedBy(pid)) {
    const inode = /^socket:\[(\d+)\]$/.exec(name)?.[1];
    if (inode !== undefined) inodes.add(inode);
  }
  return inodes;
}
