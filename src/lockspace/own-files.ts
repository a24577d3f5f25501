/**
 * The daemon's own files, by device and inode: those it has open beside held resources, and those that a new program opens and closes
 * at its start (the runtime, its libraries, the program). The daemon refuses them as resources: such a close would drop the lock, and
 * the daemon writes into its log files.
 */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { inodeKey, type InodeNumber, lastStat, posix, type Stat } from '../posix/posix.ts';

const { ENOENT, ENOTDIR } = constants.errno;

export interface OwnFile {
  /** Completes "the daemon's own …". */
  readonly purpose: string;
  /** The daemon has locked it, so no descriptor of it may be closed. */
  readonly locked: boolean;
  /** The path that it was protected by, if it is not open: it may be another file's by now. */
  readonly path: ByteString | undefined;
  references: number;
}

const own = new Map<number, Map<InodeNumber, OwnFile>>();

/** The daemon's own file with this device and inode. */
export function ownFileOf(stat: Stat): OwnFile | undefined {
  const known = own.get(stat.device)?.get(stat.inode);
  return known?.path === undefined || isStill(known.path, stat) ? known : undefined;
}

/** Whether the path still names that file. If not, another file has its inode number by now, and the entry goes. */
function isStill(path: ByteString, stat: Stat): boolean {
  const status = posix.statInode(path);
  // Any error but "no such file" says nothing about the file.
  const still = status === 0 ? inodeKey(lastStat()) === inodeKey(stat) : status !== -ENOENT && status !== -ENOTDIR;
  if (!still) own.get(stat.device)?.delete(stat.inode);
  return still;
}

function countIn(stat: Stat, purpose: string, locked: boolean, path?: ByteString): void {
  const known = ownFileOf(stat);
  if (known !== undefined) {
    known.references++;
    return;
  }
  let files = own.get(stat.device);
  if (files === undefined) own.set(stat.device, (files = new Map<InodeNumber, OwnFile>()));
  files.set(stat.inode, { purpose, locked, path, references: 1 });
}

function countOut(stat: Stat): void {
  const known = ownFileOf(stat);
  if (known !== undefined && --known.references === 0) own.get(stat.device)?.delete(stat.inode);
}

/** Protects an open file. */
export function protectOpen(fd: number, purpose: string, locked = false): void {
  if (posix.fstatInode(fd) === 0) countIn(lastStat(), purpose, locked);
}

/** To be called before the close. */
export function unprotectOpen(fd: number): void {
  if (posix.fstatInode(fd) === 0) countOut(lastStat());
}

let later: (() => Iterable<readonly [ByteString, string]>) | undefined;

/** Has files, each with its purpose, protected once a client asks for an existing file: a start need not wait for that. */
export function protectLater(files: () => Iterable<readonly [ByteString, string]>): void {
  later = files;
}

/** Protects the files of {@link protectLater}. */
export function protectNow(): void {
  if (later === undefined) return;
  let files: (readonly [ByteString, string])[];
  try {
    files = [...later()];
  } catch {
    return; // out of descriptors: the next call tries again
  }
  later = undefined;
  for (const [path, purpose] of files) protectPath(path, purpose);
}

/** Protects the file at a path, if there is one. */
export function protectPath(path: ByteString, purpose: string): void {
  if (posix.statInode(path) === 0) countIn(lastStat(), purpose, false, path);
}

/** The reverse of {@link protectPath}. */
export function unprotectPath(path: ByteString): void {
  if (posix.statInode(path) === 0) countOut(lastStat());
}
