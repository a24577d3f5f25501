/**
 * The files behind held resources. Everything that opens, locks or closes one is in this file, because POSIX locks are
 * easily lost:
 *
 * - A lock belongs to the process and the inode, not to the descriptor. Closing ANY descriptor of an inode, however it
 *   was opened, drops every lock the process has on it. So a file that may be held is never opened to look at it: stat
 *   on the path or fstat on the descriptor in hand tell enough.
 * - Asking again for a lock that the process has on the inode always succeeds. So two names of one file would both be
 *   granted: the kernel does not object, and this table by (device, inode) must.
 * - The lock covers byte 0, length 1. QEMU has locks of its own on bytes 100 to 201 of the same images.
 * - It survives exec while every descriptor of the inode stays open: close-on-exec on one of them is a close as well.
 */
import { constants } from 'node:fs';
import os from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { logger } from '../daemon/log/log.ts';
import { NumberTable } from '../memory/table.ts';
import { descriptorLimit } from '../posix/limits.ts';
import {
  FileType,
  inodeKey,
  type InodeNumber,
  LockType,
  lookedInode,
  lookedKey,
  posix,
  strerror,
} from '../posix/posix.ts';

const log = logger('util.lockspace');
const { EACCES, EAGAIN, EEXIST, EINVAL, ELOOP, ENOENT, ENOTDIR } = os.constants.errno;

const NO_SPARES: readonly number[] = [];

/** A locked file, open once, held by one resource or, when shared, by resources under several names. */
export class HeldFile {
  readonly fd: number;
  readonly device: number;
  readonly inode: InodeNumber;
  shared: boolean;
  /** False when its lock had been lost by the time it was taken over from before a restart. */
  locked = true;
  /** The device's number, of a block device; else 0. */
  readonly blockDevice: number;
  /** Resources that hold it. */
  uses = 1;
  /** More descriptors of the same inode, which must stay open as long as this one. */
  spares = NO_SPARES;

  constructor(fd: number, device: number, inode: InodeNumber, shared: boolean, blockDevice = 0) {
    this.fd = fd;
    this.device = device;
    this.inode = inode;
    this.shared = shared;
    this.blockDevice = blockDevice;
  }

  /** Device and inode. */
  get key(): string {
    return inodeKey(this.device, this.inode);
  }

  addSpare(fd: number): void {
    this.spares = [...this.spares, fd];
    spareCount++;
  }
}

/** Spare descriptors of all held files. */
let spareCount = 0;
/** So many are made at most, and no more than a quarter of all: the others are for clients and locks to come. */
const SPARES_MOST = 4096;
let sparesMost: number | undefined;

/**
 * Why a file could not be locked: someone has it, or a system call failed with `errno` (positive). `pid`: the process that
 * has it; -1 when the kernel does not tell (an OFD lock, another host), 0 when it is this one.
 */
export type LockFailure =
  | { readonly kind: 'busy'; readonly pid: number; readonly file?: HeldFile }
  | { readonly kind: 'open' | 'lock'; readonly errno: number };

/** How often a file that vanishes between open and lock is tried again. Only a hostile process gets this far. */
const ATTEMPTS = 1000;

/** By device and inode: numbers, where a string of both would take more memory than all else about a lock. */
const held = new Map<number, NumberTable<HeldFile>>();
/**
 * Held block devices by their number. One may have several nodes (/dev/mapper/x and /dev/dm-3, the /dev of a container), each
 * with locks of its own, so that the kernel objects to none.
 */
const heldBlockDevices = new Map<number, Set<HeldFile>>();
const inTheWay = new Int32Array(2);

/** The held file among those that was looked at last. */
function lookedHeld(): HeldFile | undefined {
  return held.get(posix.looked[0] ?? 0)?.get(lookedInode());
}

/** A held block device that is the one that was looked at last, by whatever node, and keeps others from locking it. */
function lookedRival(shared: boolean): HeldFile | undefined {
  for (const file of heldBlockDevices.get(posix.looked[4] ?? 0) ?? []) if (!shared || !file.shared) return file;
  return undefined;
}

/** The path of a file in a lockspace; in the default one, whose directory is empty, the name is the path. */
export function joinPath(directory: ByteString, name: ByteString): ByteString {
  return directory === '' ? name : `${directory}/${name}`;
}

/** Locks the file of that name, creating it when asked to. */
export function lockFile(
  directory: ByteString,
  name: ByteString,
  shared: boolean,
  create: boolean,
): HeldFile | LockFailure {
  if (create) {
    const fd = posix.createLocked(directory, name, shared);
    if (fd >= 0) return remember(fd, shared);
    if (fd !== -EEXIST) return { kind: 'open', errno: -fd };
  }
  const path = joinPath(directory, name);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const result = lockExisting(path, shared, create);
    if (result !== null) return result;
  }
  return { kind: 'lock', errno: EAGAIN };
}

/** As {@link lockFile}, for a file that was there. Null when it vanished meanwhile and is to be tried again. */
function lockExisting(path: ByteString, shared: boolean, create: boolean): HeldFile | LockFailure | null {
  // Before anything is opened: a second descriptor of a held file could never be closed again.
  if (posix.statInode(path) === 0) {
    const known = lookedHeld();
    if (known !== undefined) return share(known, shared);
    const rival = lookedRival(shared);
    if (rival !== undefined) return { kind: 'busy', pid: 0, file: rival };
  }
  const fd = posix.openInode(path, constants.O_RDWR | (create ? constants.O_CREAT : 0));
  if (fd < 0) return { kind: 'open', errno: -fd };
  const known = lookedHeld();
  if (known !== undefined) {
    // The path was changed to name a held file between stat and open.
    known.addSpare(fd);
    return share(known, shared);
  }
  const rival = lookedRival(shared);
  if (rival !== undefined) {
    posix.close(fd);
    return { kind: 'busy', pid: 0, file: rival };
  }
  const status = posix.lockNamed(fd, shared, create ? path : null);
  // Remembered by what openInode found: locking looks at nothing.
  if (status === 0 || (status === 2 && !countsLinks(path))) return remember(fd, shared);
  const busy = status === -EAGAIN || status === -EACCES;
  const pid = busy ? holderOf(fd, shared) : 0;
  posix.close(fd);
  if (status > 0) return null;
  return busy ? { kind: 'busy', pid } : { kind: 'lock', errno: -status };
}

/** The process whose lock is in the way, or -1: it is not known, or let go meanwhile. */
function holderOf(fd: number, shared: boolean): number {
  const status = posix.getlk(fd, shared ? LockType.READ : LockType.WRITE, 0, 1, inTheWay);
  const [type, pid = -1] = inTheWay;
  return status < 0 || type === LockType.UNLOCK || pid <= 0 ? -1 : pid;
}

function share(file: HeldFile, shared: boolean): HeldFile | LockFailure {
  // What was lost at a restart is somebody else's.
  if (!shared || !file.shared || !file.locked) return { kind: 'busy', pid: 0, file };
  file.uses++;
  return file;
}

/** By device: whether a file there that has a name has a link. */
const linkCounters = new Map<number, boolean>();

/**
 * Whether the file system at `path` counts links, so that a file without one is gone whatever a cache says. Asked of a file made
 * for that; where none can be made, it counts. What was looked at last stays so.
 */
function countsLinks(path: ByteString): boolean {
  const device = posix.looked[0] ?? 0;
  const known = linkCounters.get(device);
  if (known !== undefined) return known;
  const before = [...posix.looked];
  const probe = `${path}.${process.pid}`;
  const fd = posix.openInode(probe, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
  const counts = fd < 0 || posix.looked[0] !== device || posix.looked[5] !== 0;
  if (fd >= 0) {
    posix.close(fd);
    posix.unlink(probe);
    linkCounters.set(device, counts);
  }
  posix.looked.set(before);
  return counts;
}

/** Counts as held what was looked at last. */
function remember(fd: number, shared: boolean): HeldFile {
  const blockDevice = posix.looked[4] ?? 0;
  const file = new HeldFile(fd, posix.looked[0] ?? 0, lookedInode(), shared, blockDevice);
  if (blockDevice !== 0) {
    const nodes = heldBlockDevices.get(blockDevice);
    if (nodes === undefined) heldBlockDevices.set(blockDevice, new Set([file]));
    else nodes.add(file);
  }
  const { device, inode } = file;
  let files = held.get(device);
  if (files === undefined) held.set(device, (files = new NumberTable()));
  files.set(inode, file);
  return file;
}

/** Gives up one use of the file of that name, unlinking it first when `unlink` says so. The last use unlocks it. */
export function releaseFile(file: HeldFile, directory: ByteString, name: ByteString, unlink: boolean): void {
  file.uses--;
  if (file.uses > 0) return;
  // The device's empty map stays: most often it is filled again at once, and there are few devices.
  held.get(file.device)?.delete(file.inode);
  if (file.blockDevice !== 0) forgetBlockDevice(file);
  // A file whose lock was lost is somebody else's by now.
  // One created shared goes with its last sharer only, here or on another host: only that one can lock it for writing.
  if (unlink && file.locked && (!file.shared || posix.setlk(file.fd, LockType.WRITE, 0, 1) === 0)) {
    const status = posix.unlinkClose(directory, name, file.fd);
    if (status < 0 && status !== -ENOENT) {
      log.warn(`Unable to unlink resource ${joinPath(directory, name)}: ${strerror(status)}`);
    }
  } else posix.close(file.fd);
  // Last, for the first close of any drops the lock, and others may lock the file as long as it has its name.
  for (const spare of file.spares) posix.close(spare);
  spareCount -= file.spares.length;
}

function forgetBlockDevice(file: HeldFile): void {
  const nodes = heldBlockDevices.get(file.blockDevice);
  nodes?.delete(file);
  if (nodes?.size === 0) heldBlockDevices.delete(file.blockDevice);
}

/**
 * Takes over a file that is open and locked already, from before a restart, and asks for its lock again: held still, that
 * changes nothing; lost, it takes it back. It is not `locked` when somebody else has it by now, or the kernel refuses.
 * Null when the descriptor is not open, or not of the file with that inode key.
 *
 * Of a file that has several names, what is held exclusively comes first. C grants an exclusive lock beside shared ones when
 * the names differ, and to ask for the shared one would turn the exclusive one into it.
 */
export function adoptFile(fd: number, shared: boolean, key?: string): HeldFile | null {
  if (posix.fstatInode(fd) !== 0 || (key !== undefined && lookedKey() !== key)) return null;
  const known = lookedHeld();
  const file = known ?? remember(fd, shared);
  if (known !== undefined) {
    keepSpare(known, fd);
    known.uses++;
    // A lock that was lost as an exclusive one may be there still as the shared one that this name needs.
    if (known.locked || !shared) return known;
    known.shared = true;
  }
  file.locked = !isLost(fd, shared);
  return file;
}

/**
 * Whether another process has a lock that this process should have. Only that is a loss: an error of the file system, or a
 * holder that is not known (another host, an OFD lock, this process itself), leaves the lock as it was.
 */
function isLost(fd: number, shared: boolean): boolean {
  const status = posix.lockNamed(fd, shared, null);
  if (status === 0) return false;
  const isBusy = status === -EAGAIN || status === -EACCES;
  const pid = isBusy ? holderOf(fd, shared) : -1;
  if (pid > 0 && pid !== process.pid) return true;
  log.warn(`Cannot confirm the lock behind descriptor ${fd}, which stays held: ${strerror(status)}`);
  return false;
}

/** Makes an empty file, mode 0600; one that exists is fine. Returns 0 or -errno. */
export function createFile(path: ByteString): number {
  const created = posix.openInode(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
  if (created >= 0) return posix.close(created);
  if (created !== -EEXIST) return created;
  // Opened only to find what C would object to, so not when it is held: closing it would drop the lock, as it does in C.
  if (isHeld(path)) return 0;
  // O_NONBLOCK, for a FIFO without a reader stops the C daemon for ever.
  const fd = posix.openInode(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NONBLOCK);
  return fd < 0 ? fd : closeUnlessHeld(fd);
}

/**
 * Unlinks a file that this process does not hold, if nobody else has it locked. Returns 0, also when there is none; -EAGAIN when
 * it is locked; or another -errno.
 */
export function deleteFile(path: ByteString): number {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const status = deleteOnce(path);
    if (status !== null) return status === -ENOENT ? 0 : status;
  }
  return -EAGAIN;
}

/** As {@link deleteFile}; null when the name was given to another file meanwhile. */
function deleteOnce(path: ByteString): number | null {
  // Only what can be a lease is opened: opening a device may do something, and of a link the link itself goes.
  if (posix.fileType(path) !== FileType.REGULAR) return posix.unlink(path);
  const fd = posix.openInode(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  if (fd === -ELOOP) return posix.unlink(path);
  if (fd < 0) return fd;
  const known = lookedHeld();
  if (known !== undefined) {
    known.addSpare(fd);
    return -EAGAIN;
  }
  const status = posix.lockNamed(fd, false, path);
  if (status === 0 || status === 2) return posix.unlinkClose('', path, fd);
  posix.close(fd);
  if (status === 1) return null;
  return status === -EACCES ? -EAGAIN : status;
}

/**
 * The descriptor of the `use`th resource that holds the file, counted from 0. A state document gives each a descriptor of
 * its own: a C daemon that closed one number twice would hit whatever has it by then. Where there would be too many, one
 * number stands for several.
 */
export function descriptorOfUse(file: HeldFile, use: number): number {
  if (use === 0) return file.fd;
  sparesMost ??= Math.min(SPARES_MOST, descriptorLimit() / 4);
  while (file.spares.length < use && spareCount < sparesMost) {
    const spare = posix.duplicate(file.fd);
    if (spare < 0) return file.fd; // out of descriptors: one number for both is what there is
    file.addSpare(spare);
  }
  return file.spares[use - 1] ?? file.fd;
}

/** Keeps one more descriptor of the file open. Not closing it is the point: see the top. */
export function keepSpare(file: HeldFile, fd: number): void {
  const isNew = fd !== file.fd && !file.spares.includes(fd);
  if (isNew && posix.fstatInode(fd) === 0 && lookedKey() === file.key) file.addSpare(fd);
}

/** Closes a descriptor, or keeps it when its file is held: the close would drop the lock. Returns 0 or -errno. */
export function closeUnlessHeld(fd: number): number {
  const known = posix.fstatInode(fd) === 0 ? lookedHeld() : undefined;
  if (known === undefined) return posix.close(fd);
  keepSpare(known, fd);
  return 0;
}

/**
 * Counts a file of the daemon's own (its pid file) as held: as a resource it would be granted to anybody, for the process
 * has its lock already, and the release would drop that.
 */
export function protectFile(fd: number): void {
  if (posix.fstatInode(fd) === 0) remember(fd, false);
}

/** Whether `path` names a file that is held, which therefore must not be opened. */
export function isHeld(path: ByteString): boolean {
  return posix.statInode(path) === 0 && lookedHeld() !== undefined;
}

/** The held files that a path names at present: a block device may be held by several nodes. */
export function findHeld(path: ByteString): HeldFile[] {
  if (posix.statInode(path) !== 0) return [];
  const files = new Set(heldBlockDevices.get(posix.looked[4] ?? 0));
  const known = lookedHeld();
  if (known !== undefined) files.add(known);
  return [...files];
}

/** The inode key of what a path names at present, or null. */
export function inodeOf(path: ByteString): string | null {
  return posix.statInode(path) === 0 ? lookedKey() : null;
}

/**
 * A directory that is missing, made with its parents, each mode 0700. Returns 0 or -errno.
 * @param looking as C 7.0.0: look before making
 */
export function makeDirectories(path: ByteString, looking: boolean): number {
  if (path === '') return -EINVAL;
  if (looking) return makeLooking(path);
  const status = makeWithParents(path);
  if (status !== -EEXIST) return status;
  // One that is there is fine, but not a link that leads nowhere, in whose place mkdir(2) makes nothing either.
  return posix.fileType(path) === FileType.DIRECTORY ? 0 : -ENOTDIR;
}

/**
 * Returns -EEXIST when something is there, whatever it is: of a parent, C finds out by using it. Parents are made from the
 * outermost on, as C makes them: those before one that fails stay.
 */
function makeWithParents(path: ByteString): number {
  const status = posix.makeDirectory(path);
  if (status >= 0 || status === -EEXIST) return status;
  for (const { index } of path.matchAll(/(?<=[^/])\/+(?=[^/])/g)) {
    const parent = posix.makeDirectory(path.slice(0, index));
    if (parent < 0 && parent !== -EEXIST) return parent;
  }
  return posix.makeDirectory(path);
}

/** C 7.0.0 takes whatever has come into a directory's place for one, and finds no parent in a name without a slash. */
function makeLooking(path: ByteString): number {
  const type = posix.fileType(path);
  if (type >= 0) return type === FileType.DIRECTORY ? 0 : -ENOTDIR;
  if (type !== -ENOENT) return type;
  const slash = path.lastIndexOf('/');
  if (slash < 0) return -EINVAL;
  const parent = slash === 0 ? 0 : makeLooking(path.slice(0, slash));
  if (parent < 0) return parent;
  const status = posix.makeDirectory(path);
  return status === -EEXIST ? 0 : status;
}
