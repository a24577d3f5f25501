/**
 * The daemon's own files, by device and inode: what it has open beside held resources, and what a program that is executed
 * anew opens and closes before it holds anything (the runtime, its libraries, the program). Nobody gets a lock on one: the
 * close would drop it, and into a log's file the daemon writes.
 */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { inodeKey, type InodeNumber, lastStat, posix, type Stat } from '../posix/posix.ts';

const { ENOENT, ENOTDIR } = constants.errno;

export interface OwnFile {
  /** As it completes "the daemon's own". */
  readonly purpose: string;
  /** The daemon has a lock on it, which no descriptor's close may drop. */
  readonly locked: boolean;
  /** The name it was counted in by, if it is not open: it may be another file's by now. */
  readonly path: ByteString | undefined;
  /** Times that it was counted in and not out again. */
  references: number;
}

const own = new Map<number, Map<InodeNumber, OwnFile>>();

/** The daemon's own file that has this device and inode. */
export function ownFileOf(stat: Stat): OwnFile | undefined {
  const known = own.get(stat.device)?.get(stat.inode);
  return known?.path === undefined || isStill(known.path, stat) ? known : undefined;
}

/** Whether the path names that file. If not, what has its inode number now is another file. */
function isStill(path: ByteString, stat: Stat): boolean {
  const status = posix.statInode(path);
  // An error that does not say that the path names nothing leaves the file what it was.
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

/** Counts in a file that is open. */
export function protectOpen(fd: number, purpose: string, locked = false): void {
  if (posix.fstatInode(fd) === 0) countIn(lastStat(), purpose, locked);
}

/** Counts out a file that is open still. */
export function unprotectOpen(fd: number): void {
  if (posix.fstatInode(fd) === 0) countOut(lastStat());
}

/** Files that need not be counted in before anybody asks for a file that is there already. */
let later: (() => Iterable<readonly [ByteString, string]>) | undefined;

/** Has files, each with its purpose, counted in once that is needed: no start need wait for them to be found. */
export function protectLater(files: () => Iterable<readonly [ByteString, string]>): void {
  later = files;
}

/** Counts in what {@link protectLater} has left. */
export function protectNow(): void {
  if (later === undefined) return;
  let files: (readonly [ByteString, string])[];
  try {
    files = [...later()];
  } catch {
    return; // for a lack of descriptors, which passes
  }
  later = undefined;
  for (const [path, purpose] of files) protectPath(path, purpose);
}

/** Counts in what a path names at present, if anything. */
export function protectPath(path: ByteString, purpose: string): void {
  if (posix.statInode(path) === 0) countIn(lastStat(), purpose, false, path);
}

/** Counts out what a path names at present. */
export function unprotectPath(path: ByteString): void {
  if (posix.statInode(path) === 0) countOut(lastStat());
}
