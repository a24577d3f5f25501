/**
 * The files behind held resources. Everything that opens, locks or closes one is in this file. A lock is of one of two kinds (see
 * posix/record-lock.ts), and an inode that is held has one kind only: each keeps the other out. POSIX locks are easily lost:
 *
 * - A lock belongs to the process and the inode, not to the descriptor. Closing ANY descriptor of an inode, however it
 *   was opened, drops every lock the process has on it. So a file that may be held is never opened for inspection: stat
 *   on the path, or fstat on a descriptor that is open already, is enough.
 * - Asking again for a lock that the process has on the inode always succeeds. So the kernel would grant both of two names of one
 *   file, and this table by (device, inode) must refuse.
 * - The lock covers byte 0, length 1. QEMU has locks of its own on bytes 100 to 201 of the same images.
 * - It survives exec while every descriptor of the inode stays open: close-on-exec on one of them is a close as well.
 *
 * An OFD lock belongs to the open file. Opening and closing other descriptors of the inode does not affect it. A duplicate in another
 * process (see file-keeper.ts) keeps it when this process dies or closes its own descriptor, so a release must unlock it explicitly.
 */
import { constants } from 'node:fs';
import { constants as osConstants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { logger } from '../log/log.ts';
import { changeLock, findRival, type LockKind, setLock } from '../posix/record-lock.ts';
import type { LockEngine } from './engine.ts';
import { type FileKeeper, NO_KEEPER } from './file-keeper.ts';
import type { LockLoss } from './lock-loss.ts';
import type { Release } from './release.ts';
import { NumberTable } from './table.ts';
import { type OwnFile, ownFileOf, protectNow, protectOpen, unprotectOpen } from './own-files.ts';
import {
  FileType,
  fileType,
  inodeKey,
  type InodeNumber,
  lastStat,
  LockType,
  parseInodeKey,
  posix,
  type Stat,
  strerror,
} from '../posix/posix.ts';
import { isNode } from '../proc/route.ts';

const log = logger('util.lockspace');
const { EACCES, EAGAIN, EBADF, EBUSY, EEXIST, EINVAL, ELOOP, ENOENT, ENOTDIR, ESTALE } = osConstants.errno;

const NO_FDS: ReadonlySet<number> = new Set();

/** The lock of an adopted file, if it is not a POSIX lock of its full mode. */
export type KeptLock = 'ofd' | 'ofd-degraded' | 'posix-degraded';

/** A file that a storage helper keeps: see src/storage. */
export interface RemoteFile {
  /** The helper's id, and its number for the file. */
  readonly helper: number;
  readonly file: number;
}

/** A locked file, open once, held by one resource or, when shared, by resources under several names. */
const NO_ENGINE: LockEngine | null = null;

/** A lock that an engine keeps: see engine.ts. */
export interface EngineLock {
  readonly key: ByteString;
  readonly revision: string;
  readonly lease: string;
}

export class HeldFile {
  /** -1 after a restart has lost it: see {@link adoptWithout}. */
  fd: number;
  readonly device: number;
  readonly inode: InodeNumber;
  shared: boolean;
  /** False when its lock turned out to be lost. */
  locked = true;
  /** Its lock was lost while a storage helper had it. */
  loss: LockLoss | null = null;
  lockKind: LockKind;
  /**
   * Its lock should be exclusive, but the kernel has a shared one: another process took a shared lock while the kind was changed. No
   * process has an exclusive lock, and restart/lock-kinds.ts retries.
   */
  degraded = false;
  /** The number of a block device; 0 for any other file, {@link UNKNOWN_BLOCK_DEVICE} for one that may be either. */
  readonly blockDevice: number;
  /** Resources that hold it. */
  references = 1;
  /** Further descriptors of the inode: they are closed with {@link fd}, not before. Most files have none, and share one set. */
  private furtherFds = NO_FDS;
  /** A helper has it open and locked, and this process has no descriptor of it. */
  remote: RemoteFile | null;
  /** Nobody holds it any more, and it is being released. */
  release: Release | null = null;

  constructor(
    fd: number,
    device: number,
    inode: InodeNumber,
    shared: boolean,
    blockDevice = 0,
    lockKind: LockKind = 'posix',
    remote: RemoteFile | null = null,
  ) {
    this.remote = remote;
    this.fd = fd;
    this.lockKind = lockKind;
    this.device = device;
    this.inode = inode;
    this.shared = shared;
    this.blockDevice = blockDevice;
  }

  /** Device and inode. */
  get key(): string {
    return inodeKey(this);
  }

  /** The engine that keeps the lock elsewhere; null: it is a file's. */
  get engine(): LockEngine | null {
    // A getter costs no memory in each of very many files.
    return NO_ENGINE;
  }

  /** The lock of {@link engine}, for the next program. */
  get engineState(): EngineLock | undefined {
    return undefined;
  }

  /** Whether the kernel has a shared lock. */
  get isReadLocked(): boolean {
    return this.shared || this.degraded;
  }

  /** Its lock, for the next program image; undefined: a POSIX lock of its full mode, as C's. */
  get keptLock(): KeptLock | undefined {
    if (this.degraded) return `${this.lockKind}-degraded`;
    return this.lockKind === 'ofd' ? 'ofd' : undefined;
  }

  get deferredFds(): ReadonlySet<number> {
    return this.furtherFds;
  }

  addDeferredFd(fd: number): void {
    noteFileChange();
    if (this.furtherFds === NO_FDS) this.furtherFds = new Set([fd]);
    else (this.furtherFds as Set<number>).add(fd);
  }

  forgetDeferredFds(): void {
    this.furtherFds = NO_FDS;
  }
}

let changeCount = 0;

/** Counts changes to the descriptors of held files, and to {@link HeldFile.locked}. */
export function fileChanges(): number {
  return changeCount;
}

export function noteFileChange(): void {
  changeCount++;
}

/**
 * Why a file could not be locked: it is the daemon's own, another lock is in the way, or a system call failed with `errno`
 * (positive). `pid`: the process that has the lock; -1 when the kernel does not report it (an OFD lock, another host), 0 for this one.
 * `at`: the file, if a storage helper was refused.
 */
export type LockFailure =
  | { readonly kind: 'own'; readonly file: OwnFile }
  | { readonly kind: 'busy'; readonly pid: number; readonly file?: HeldFile; readonly at?: Stat | null }
  | { readonly kind: 'open' | 'lock'; readonly errno: number };

/** The path names a device node, whose open asks the device. */
interface NodeFound {
  readonly kind: 'node';
  readonly stat: Stat;
}

/** For a file on record without the number: it may be any block device. */
const UNKNOWN_BLOCK_DEVICE = -1;

/** How often a file is tried again that vanishes between open and lock. Only a hostile process causes so many. */
const ATTEMPTS = 1000;

/**
 * By device and inode. A table of the module, not of a daemon: the kernel's locks are the process's, so whatever in the process opens
 * or closes a file must know them all.
 *
 * The keys are numbers: a string of both would take more memory than all else about a lock.
 */
const held = new Map<number, NumberTable<HeldFile>>();
/**
 * Held block devices by their number. A device may have several nodes (/dev/mapper/x and /dev/dm-3, the /dev of a container). Each
 * node has locks of its own, so the kernel grants all of them.
 */
const heldBlockDevices = new Map<number, Set<HeldFile>>();

/** Adopts the files that were held before a restart and are not in the tables yet. */
let adoptRest: (() => void) | null = null;

/** Has `adopt` called before the next look into the tables; null: all files are adopted. */
export function adoptFilesLater(adopt: (() => void) | null): void {
  adoptRest = adopt;
}

function heldFile({ device, inode }: Stat): HeldFile | undefined {
  adoptRest?.();
  return held.get(device)?.get(inode);
}

/** The held node of the same block device that excludes a further lock. */
function rivalOf({ blockDevice }: Stat, shared: boolean): HeldFile | undefined {
  adoptRest?.();
  if (blockDevice === 0) return undefined;
  for (const number of [blockDevice, UNKNOWN_BLOCK_DEVICE])
    for (const file of heldBlockDevices.get(number) ?? []) if (!shared || !file.shared) return file;
  return undefined;
}

/** The path of a file in a lockspace; in the default one, whose directory is empty, the name is the path. */
export function joinPath(directory: ByteString, name: ByteString): ByteString {
  return directory === '' ? name : `${directory}/${name}`;
}

/** Decides which files get OFD locks; null: none. */
type KindChooser = Pick<FileKeeper, 'keeps'> | null;

/**
 * Locks the file of that name, creating it when asked to.
 *
 * @param leavesNodes does not open device nodes
 */
export function lockFile(
  directory: ByteString,
  name: ByteString,
  shared: boolean,
  create: boolean,
  chooser: KindChooser = null,
  leavesNodes = false,
): HeldFile | LockFailure | NodeFound {
  if (create) {
    const made = chooser === null ? makeAtOnce(directory, name, shared) : makeFile(directory, name, shared, chooser);
    if (made !== null) return made;
  }
  const path = joinPath(directory, name);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const result = lockExisting(path, shared, create, chooser, leavesNodes);
    if (result !== null) return result;
  }
  return { kind: 'lock', errno: EAGAIN };
}

/** Creates and locks a file. Null when it exists already, or another process has unlinked or locked it in between. */
function makeFile(
  directory: ByteString,
  name: ByteString,
  shared: boolean,
  chooser: KindChooser,
): HeldFile | LockFailure | null {
  const path = joinPath(directory, name);
  const fd = posix.openInode(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL);
  if (fd < 0) return fd === -EEXIST ? null : { kind: 'open', errno: -fd };
  const stat = lastStat();
  const kind = kindOf(fd, stat, chooser);
  if (posix.lockNamed(fd, shared, path, kind === 'ofd') === 0) return admit(fd, stat, shared, kind);
  posix.close(fd);
  return null;
}

/** As {@link makeFile}, in one call of the addon, with a POSIX lock. */
function makeAtOnce(directory: ByteString, name: ByteString, shared: boolean): HeldFile | LockFailure | null {
  const fd = posix.createLocked(directory, name, shared);
  if (fd >= 0) return admit(fd, lastStat(), shared);
  return fd === -EEXIST ? null : { kind: 'open', errno: -fd };
}

function kindOf(fd: number, stat: Stat, chooser: KindChooser): LockKind {
  return chooser?.keeps(fd, stat) === true ? 'ofd' : 'posix';
}

/** As {@link lockFile}, for a file that existed. Null when it has vanished and is to be tried again. */
function lockExisting(
  path: ByteString,
  shared: boolean,
  create: boolean,
  chooser: KindChooser,
  leavesNodes: boolean,
): HeldFile | LockFailure | NodeFound | null {
  protectNow();
  // Before anything is opened: a second descriptor of a held file could never be closed again.
  if (posix.statInode(path) === 0) {
    const stat = lastStat();
    const known = heldFile(stat);
    if (known !== undefined) return addReference(known, shared);
    const failure = failureOf(stat, shared);
    if (failure !== null) return failure;
    if (leavesNodes && isNode(stat)) return { kind: 'node', stat };
  }
  const fd = posix.openInode(path, constants.O_RDWR | (create ? constants.O_CREAT : 0));
  if (fd < 0) return { kind: 'open', errno: -fd };
  const stat = lastStat();
  const known = heldFile(stat);
  // The path was changed to name a held file between stat and open.
  if (known !== undefined) return addOpenReference(known, fd, shared);
  const failure = failureOf(stat, shared);
  if (failure !== null) {
    closeUnlessHeld(fd);
    return failure;
  }
  const kind = kindOf(fd, stat, chooser);
  const status = posix.lockNamed(fd, shared, create ? path : null, kind === 'ofd');
  if (status === 0 || (status === 2 && !countsLinks(path, stat))) return registerOpen(fd, stat, shared, kind);
  const busy = status === -EAGAIN || status === -EACCES;
  const pid = busy ? findRival(kind, fd, shared) : 0;
  posix.close(fd);
  if (status > 0) return null;
  return busy ? { kind: 'busy', pid } : { kind: 'lock', errno: -status };
}

/** Why a file that is not held must not be locked although the kernel would grant it. */
function failureOf(stat: Stat, shared: boolean): LockFailure | null {
  const own = ownFileOf(stat);
  if (own !== undefined) return { kind: 'own', file: own };
  const rival = rivalOf(stat, shared);
  return rival === undefined ? null : { kind: 'busy', pid: 0, file: rival };
}

function addReference(file: HeldFile, shared: boolean): HeldFile | LockFailure {
  // A lock that was lost at a restart is another process's. One that is being released is gone soon.
  if (!shared || !file.shared || !file.locked || file.release !== null) return { kind: 'busy', pid: 0, file };
  file.references++;
  return file;
}

/** As {@link addReference}, with one more descriptor of the file, whose close a POSIX lock defers. */
function addOpenReference(file: HeldFile, fd: number, shared: boolean): HeldFile | LockFailure {
  if (file.lockKind === 'posix') file.addDeferredFd(fd);
  else posix.close(fd);
  return addReference(file, shared);
}

/**
 * Whether the file system counts links, so that a file without a link is gone whatever a cache says. Makes a probe file beside `path`,
 * every time: another file system may have the device's number by now. Where no file can be made, the answer is yes.
 */
function countsLinks(path: ByteString, { device }: Stat): boolean {
  const probe = `${path}.${process.pid}`;
  const fd = posix.openInode(probe, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
  if (fd < 0) return true;
  const made = lastStat();
  const counts = made.device !== device || made.links !== 0;
  posix.close(fd);
  posix.unlink(probe);
  return counts;
}

/**
 * Registers a file that was made just now. Its inode number need not be new: a file server reuses the number of a file that it has
 * removed, even while we hold that file. The two cannot be distinguished then, so the new one counts as another name of the held one.
 */
function admit(fd: number, stat: Stat, shared: boolean, kind: LockKind = 'posix'): HeldFile | LockFailure {
  const known = heldFile(stat);
  return known === undefined ? registerOpen(fd, stat, shared, kind) : addOpenReference(known, fd, shared);
}

/** Registers a file that is not held yet as held through `fd`. */
function registerOpen(fd: number, { device, inode, blockDevice }: Stat, shared: boolean, kind: LockKind): HeldFile {
  return register(new HeldFile(fd, device, inode, shared, blockDevice, kind));
}

function register(file: HeldFile): HeldFile {
  const { device, inode, blockDevice } = file;
  if (blockDevice !== 0) {
    const nodes = heldBlockDevices.get(blockDevice);
    if (nodes === undefined) heldBlockDevices.set(blockDevice, new Set([file]));
    else nodes.add(file);
  }
  let files = held.get(device);
  if (files === undefined) held.set(device, (files = new NumberTable()));
  files.set(inode, file);
  return file;
}

/**
 * Drops one reference to the file. The last one unlinks it by that name, if `unlink` says so, then unlocks it, then closes it: no other
 * process may lock the file while it has its name. Of a file that a storage helper keeps, the helper does that: see RemoteFiles.
 */
export function releaseFile(
  file: HeldFile,
  directory: ByteString,
  name: ByteString,
  unlink: boolean,
  keeper: Pick<FileKeeper, 'releasing' | 'unlocked' | 'gone'> = NO_KEEPER,
): void {
  file.references--;
  if (file.references > 0) return;
  keeper.releasing(file);
  // An empty map of a device stays: it is filled again soon, and there are few devices.
  held.get(file.device)?.delete(file.inode);
  if (file.blockDevice !== 0) forgetBlockDevice(file);
  // A file whose lock was lost is another process's by now.
  // A shared file goes with its last sharer, here or on another host: only that one can lock it for writing.
  if (unlink && file.locked && (!file.isReadLocked || setLock(file.lockKind, file.fd, LockType.WRITE) === 0)) {
    const status = posix.unlinkOpen(directory, name, file.fd);
    if (status < 0 && status !== -ENOENT) {
      log.warn(`Unable to unlink resource ${joinPath(directory, name)}: ${strerror(status)}`);
    }
  }
  if (file.lockKind === 'ofd') {
    setLock('ofd', file.fd, LockType.UNLOCK);
    keeper.unlocked(file);
  }
  posix.close(file.fd);
  for (const fd of file.deferredFds) posix.close(fd);
  keeper.gone(file);
}

/** Registers a file that a helper has locked, unless the daemon has reasons of its own against it. */
export function registerRemote(stat: Stat, shared: boolean, remote: RemoteFile): HeldFile | LockFailure {
  const failure = failureOf(stat, shared);
  if (failure !== null) return failure;
  const known = heldFile(stat);
  if (known !== undefined) return addReference(known, shared);
  const { device, inode, blockDevice } = stat;
  return register(new HeldFile(-1, device, inode, shared, blockDevice, 'ofd', remote));
}

/** A helper has released the file. */
export function unregister(file: HeldFile): void {
  file.references = 0;
  if (held.get(file.device)?.get(file.inode) === file) held.get(file.device)?.delete(file.inode);
  if (file.blockDevice !== 0) forgetBlockDevice(file);
}

function forgetBlockDevice(file: HeldFile): void {
  const nodes = heldBlockDevices.get(file.blockDevice);
  nodes?.delete(file);
  if (nodes?.size === 0) heldBlockDevices.delete(file.blockDevice);
}

/**
 * Adopts a file that is open and locked since before a restart. Its file system, which may hang, is not called: exec has kept the
 * lock, and restart/confirm.ts checks it later.
 *
 * @param key the file's inode key, if it is on record
 * @param lock how it is locked
 * @returns null when the descriptor is not open, or not of a file that could be it
 */
export function adoptFile(fd: number, shared: boolean, key?: string, lock?: KeptLock): HeldFile | null {
  const stat = statOpen(fd);
  if (stat === -EBADF) return null;
  if (typeof stat !== 'number' && (key === undefined ? !isLockable(stat) : inodeKey(stat) !== key)) return null;
  // Any other error says nothing about the file: then the key on record counts, or the file gets an identity of its own.
  const { device, inode } = typeof stat === 'number' ? identityOf(key) : stat;
  const known = held.get(device)?.get(inode);
  if (known === undefined) {
    const blockDevice = typeof stat === 'number' ? 0 : stat.blockDevice;
    const file = register(new HeldFile(fd, device, inode, shared, blockDevice, kindIn(lock)));
    file.degraded = lock?.endsWith('degraded') === true;
    return file;
  }
  deferClose(known, fd);
  return restoreReference(known, shared);
}

function kindIn(lock: KeptLock | undefined): LockKind {
  return lock?.startsWith('ofd') === true ? 'ofd' : 'posix';
}

/** Adopts a file that a helper keeps. It is not asked what the file is: it may not answer. */
export function adoptRemote(
  key: string | undefined,
  shared: boolean,
  remote: RemoteFile,
  blockDevice = UNKNOWN_BLOCK_DEVICE,
): HeldFile {
  const { device, inode } = identityOf(key);
  const known = held.get(device)?.get(inode);
  return known === undefined
    ? register(new HeldFile(-1, device, inode, shared, blockDevice, 'ofd', remote))
    : restoreReference(known, shared);
}

/**
 * Adopts a file on record whose descriptor is not the file's. Its lock is gone, for the kernel dropped it when the descriptor was
 * closed. The descriptor may be anybody's by now and is left alone. The resource stays held, so that nobody else gets it, and
 * {@link reopen} may get the lock back.
 *
 * @param key the file's inode key, if it is known
 * @param lock how it was locked
 */
export function adoptWithout(shared: boolean, key?: string, lock?: KeptLock): HeldFile {
  const { device, inode } = identityOf(key);
  const known = held.get(device)?.get(inode);
  // It has another descriptor, which is as good.
  if (known !== undefined) return restoreReference(known, shared);
  const file = register(new HeldFile(-1, device, inode, shared, 0, kindIn(lock)));
  file.locked = false;
  return file;
}

/** No file is on it. */
const NO_DEVICE = 0;

/** The identity in the key; without one, an identity that no other file has. */
function identityOf(key: string | undefined): Pick<Stat, 'device' | 'inode'> {
  const recorded = key === undefined ? null : parseInodeKey(key);
  if (recorded !== null) return recorded;
  return { device: NO_DEVICE, inode: ++unknownIdentities };
}

let unknownIdentities = 0;

/**
 * One more resource held the file before a restart. C grants an exclusive lock beside shared ones when the names differ: the kernel
 * then has the exclusive one.
 */
export function restoreReference(file: HeldFile, shared: boolean): HeldFile {
  file.references++;
  if (!shared) file.shared = false;
  return file;
}

/** Opens a file that has no descriptor at its path, if it is still there. Returns 0 or -errno. */
export function reopen(file: HeldFile, path: ByteString): number {
  // Never another held file: that descriptor could not be closed again.
  const status = posix.statInode(path);
  if (status !== 0) return status;
  if (heldFile(lastStat()) !== file) return -ESTALE;
  const fd = posix.openInode(path, constants.O_RDWR | constants.O_NONBLOCK);
  if (fd < 0) return fd;
  if (heldFile(lastStat()) !== file) {
    closeUnlessHeld(fd);
    return -ESTALE;
  }
  noteFileChange();
  file.fd = fd;
  return 0;
}

/**
 * Asks for a held file's lock again, which changes nothing if it is still held. Null when it is held now. A `pid` of -1: the kernel
 * names no other process, and there may be none.
 */
export function lockAgain({ fd, lockKind, isReadLocked }: HeldFile): Exclude<LockFailure, { kind: 'own' }> | null {
  const status = setLock(lockKind, fd, isReadLocked ? LockType.READ : LockType.WRITE);
  if (status === 0) return null;
  if (status !== -EAGAIN && status !== -EACCES) return { kind: 'lock', errno: -status };
  const pid = findRival(lockKind, fd, isReadLocked);
  return { kind: 'busy', pid: pid === process.pid ? -1 : pid };
}

/** Stats an open file, repeatedly if that fails for once. Returns the result or -errno. */
function statOpen(fd: number): Stat | number {
  let status = 0;
  for (let attempt = 0; attempt < 3; attempt++) {
    status = posix.fstatInode(fd);
    if (status === 0) return lastStat();
    if (status === -EBADF) break;
  }
  return status;
}

/** Whether a file can have been opened by its path: neither a socket nor an object without a type. */
function isLockable({ type }: Stat): boolean {
  return type !== 0 && type !== FileType.SOCKET;
}

/** Makes an empty file, mode 0600; one that exists is fine. Returns 0 or -errno; a node, which it does not open, with `leavesNodes`. */
export function createFile(path: ByteString, leavesNodes = false): number | NodeFound {
  const created = posix.openInode(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
  if (created >= 0) return posix.close(created);
  if (created !== -EEXIST) return created;
  if (leavesNodes && posix.statInode(path) === 0 && isNode(lastStat())) return { kind: 'node', stat: lastStat() };
  // Opened only to find the errors that C reports, so not when it is held: the close would drop the lock, as it does in C.
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

/** As {@link deleteFile}; null when another file has got the name. */
function deleteOnce(path: ByteString): number | null {
  // Only a regular file, which may be a lease, is opened: to open a device may have an effect, and a link is unlinked itself.
  if (fileType(path) !== FileType.REGULAR) return posix.unlink(path);
  const fd = posix.openInode(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  if (fd === -ELOOP) return posix.unlink(path);
  if (fd < 0) return fd;
  const stat = lastStat();
  if (isHeldFile(stat) || ownFileOf(stat) !== undefined) {
    closeUnlessHeld(fd);
    return -EAGAIN;
  }
  const status = posix.lockNamed(fd, false, path, false);
  const unlinked = status === 0 || status === 2 ? posix.unlinkOpen('', path, fd) : status;
  posix.close(fd);
  if (status === 1) return null;
  return unlinked === -EACCES ? -EAGAIN : unlinked;
}

/** The descriptors of the resources that hold the file, in turn: each has its own where there are enough. */
export function* descriptorsOfReferences(file: HeldFile): Generator<number, never> {
  yield file.fd;
  const { deferredFds } = file;
  for (const fd of deferredFds) {
    // They are closed by now.
    if (file.deferredFds !== deferredFds) break;
    yield fd;
  }
  for (;;) yield file.fd;
}

/** How many more descriptors the file needs for each of its resources to have one. */
export function lackingFds({ references, deferredFds }: HeldFile): number {
  return Math.max(0, references - 1 - deferredFds.size);
}

/** Duplicates the file's descriptor. Returns the new one or -errno. */
export function duplicateDeferred(file: HeldFile): number {
  const fd = posix.duplicate(file.fd);
  if (fd >= 0) file.addDeferredFd(fd);
  return fd;
}

/**
 * Closes the deferred descriptors of a shared file, some of which {@link duplicateDeferred} has made. The first close would drop the
 * process's lock, so the lock becomes an OFD lock until all are closed. If the kernel refuses that, none is closed.
 */
export function closeDeferred(file: HeldFile): void {
  if (!file.shared || !file.locked || file.lockKind === 'ofd') return;
  if (changeKind(file, 'ofd') !== 0) return;
  const errno = changeKind(file, 'posix');
  if (errno !== 0)
    log.error(`Cannot change a shared lock back to a POSIX lock, it stays an OFD lock: ${strerror(errno)}`);
}

/**
 * Changes the kind of a held file's lock, which may degrade the lock: see posix/record-lock.ts. Under an OFD lock it closes the deferred
 * descriptors.
 *
 * @returns why the kind is the old one (positive)
 */
export function changeKind(file: HeldFile, to: LockKind): number {
  const { kind, degraded, errno } = changeLock(file.fd, file.shared, to);
  noteFileChange();
  file.lockKind = kind;
  file.degraded = degraded;
  if (kind === 'ofd') {
    for (const fd of file.deferredFds) posix.close(fd);
    file.forgetDeferredFds();
  }
  return errno;
}

/** Tries to make a degraded lock exclusive again. Returns 0 or -errno. */
export function mendLock(file: HeldFile): number {
  const status = setLock(file.lockKind, file.fd, LockType.WRITE);
  if (status === 0) {
    file.degraded = false;
    noteFileChange();
  }
  return status;
}

/** Defers the close of one more descriptor of the file. False when it is not one of this file. */
export function deferClose(file: HeldFile, fd: number): boolean {
  if (fd === file.fd || file.deferredFds.has(fd)) return true;
  const stat = statOpen(fd);
  // In doubt it is: else the next exec would close it.
  const isOne = typeof stat === 'number' ? stat !== -EBADF : stat.device === file.device && stat.inode === file.inode;
  if (isOne) file.addDeferredFd(fd);
  return isOne;
}

/** Whether the inode with this key is held, and not adopted yet. */
let isAwaited: (key: string) => boolean = () => false;
/** Descriptors of such inodes. */
let strays: number[] = [];

/**
 * The files of a program that was just executed are not in the table until they are adopted, but until then whoever opens a file must
 * know them: from now on a file counts as held if `isHeldKey` says so.
 */
export function awaitAdoption(isHeldKey: (key: string) => boolean): void {
  isAwaited = isHeldKey;
}

/** Every file is in the table, or will not be adopted. */
export function endAdoption(): void {
  isAwaited = () => false;
  const fds = strays;
  strays = [];
  for (const fd of fds) closeUnlessHeld(fd);
}

/** Whether it is held, adopted already or not. */
function isHeldFile(stat: Stat): boolean {
  return heldFile(stat) !== undefined || isAwaited(inodeKey(stat));
}

/**
 * Closes a descriptor, unless the close would drop a POSIX lock of the process: on a held file, on one to be adopted, or on one that the
 * daemon has locked for itself. Returns 0 or -errno.
 */
export function closeUnlessHeld(fd: number): number {
  if (posix.fstatInode(fd) !== 0) return posix.close(fd);
  const stat = lastStat();
  const known = heldFile(stat);
  if (known?.lockKind === 'posix') deferClose(known, fd);
  else if (known !== undefined) return fd === known.fd ? 0 : posix.close(fd);
  else if (isAwaited(inodeKey(stat))) strays.push(fd);
  else if (ownFileOf(stat)?.locked !== true) return posix.close(fd);
  return 0;
}

/** Opens one of the daemon's own files. Returns the descriptor or -errno; -EBUSY when it is held. */
export function openOwn(path: ByteString, flags: number, purpose: string): number {
  if (isHeld(path)) return -EBUSY;
  const fd = posix.openInode(path, flags);
  if (fd < 0) return fd;
  // The path was changed to name a held file between stat and open.
  if (mustStayOpen(lastStat())) {
    closeUnlessHeld(fd);
    return -EBUSY;
  }
  protectOpen(fd, purpose);
  return fd;
}

/** Closes a file that {@link openOwn} has opened. */
export function closeOwn(fd: number): void {
  unprotectOpen(fd);
  closeUnlessHeld(fd);
}

/** Whether the close of a descriptor would drop a lock: the file is held, or locked by the daemon for itself. */
function mustStayOpen(stat: Stat): boolean {
  return isHeldFile(stat) || ownFileOf(stat)?.locked === true;
}

/** Whether `path` names a file that must not be opened: it is held, or locked by the daemon for itself. */
export function isHeld(path: ByteString): boolean {
  return posix.statInode(path) === 0 && mustStayOpen(lastStat());
}

/** What the daemon has to do with a file: the held files, for a block device may be held by several nodes, and its own. */
export interface KnownFiles {
  readonly held: readonly HeldFile[];
  readonly own: OwnFile | undefined;
}

/** @param stat null: there is none */
export function knownFiles(stat: Stat | null): KnownFiles {
  if (stat === null) return { held: [], own: undefined };
  protectNow();
  const known = heldFile(stat);
  const files = new Set(heldBlockDevices.get(stat.blockDevice));
  if (known !== undefined) files.add(known);
  return { held: [...files], own: ownFileOf(stat) };
}

/** As {@link knownFiles}, for the file at the path. */
export function findKnown(path: ByteString): KnownFiles {
  return knownFiles(posix.statInode(path) === 0 ? lastStat() : null);
}

/** The held files at the path. */
export function findHeld(path: ByteString): readonly HeldFile[] {
  return findKnown(path).held;
}

/** The inode key of the file at the path, or null. */
export function inodeOf(path: ByteString): string | null {
  return posix.statInode(path) === 0 ? inodeKey(lastStat()) : null;
}

/** The calls that directories are made with; each returns a result or -errno. */
export interface DirectoryCalls {
  /** A {@link FileType}. */
  typeOf(path: ByteString): number;
  make(path: ByteString): number;
}

/** Of this process. */
export const localDirectories: DirectoryCalls = { typeOf: fileType, make: (path) => posix.makeDirectory(path) };

/**
 * Makes a missing directory and its parents, each with mode 0700. Returns 0 or -errno.
 *
 * @param looking stat first, as C 7.0.0 does
 */
export function makeDirectories(path: ByteString, looking: boolean, calls = localDirectories): number {
  if (path === '') return -EINVAL;
  if (looking) return makeLooking(path, calls);
  const status = makeWithParents(path, calls);
  if (status !== -EEXIST) return status;
  // An existing directory is fine, but not a dangling link, for which mkdir(2) fails with EEXIST as well.
  return calls.typeOf(path) === FileType.DIRECTORY ? 0 : -ENOTDIR;
}

/**
 * Returns -EEXIST when the path exists, whatever it is; a parent that is no directory fails when it is used, as in C. Parents are made
 * from the outermost on, as C makes them: those before one that fails stay.
 */
function makeWithParents(path: ByteString, calls: DirectoryCalls): number {
  const status = calls.make(path);
  if (status >= 0 || status === -EEXIST) return status;
  for (const { index } of path.matchAll(/(?<=[^/])\/+(?=[^/])/g)) {
    const parent = calls.make(path.slice(0, index));
    if (parent < 0 && parent !== -EEXIST) return parent;
  }
  return calls.make(path);
}

/** C 7.0.0 takes whatever has come into the directory's place for a directory, and finds no parent in a name without a slash. */
function makeLooking(path: ByteString, calls: DirectoryCalls): number {
  const type = calls.typeOf(path);
  if (type >= 0) return type === FileType.DIRECTORY ? 0 : -ENOTDIR;
  if (type !== -ENOENT) return type;
  const slash = path.lastIndexOf('/');
  if (slash < 0) return -EINVAL;
  const parent = slash === 0 ? 0 : makeLooking(path.slice(0, slash), calls);
  if (parent < 0) return parent;
  const status = calls.make(path);
  return status === -EEXIST ? 0 : status;
}
