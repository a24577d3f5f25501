/**
 * Lockspaces and the resources held in them: acquire, release, create, delete, and the release of an owner that has ended. The tables
 * know held resources only. Two indices keep the cost of every request to the resources it names: by lockspace and exact name, and by
 * owner pid.
 */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { FileType, fileType } from '../posix/posix.ts';
import { NumberTable, TextTable } from './table.ts';
import type { Dialect } from '../libvirt/dialect.ts';
import { RpcError, systemError } from '../libvirt/errors.ts';
import { Waiting } from '../rpc/waiting.ts';
import { type Account, Budget, holdCost, LimitError } from './budget.ts';
import {
  adoptFilesLater,
  createFile,
  deleteFile,
  findHeld,
  findOwn,
  HeldFile,
  joinPath,
  lockFile,
  type LockFailure,
  makeDirectories,
  releaseFile,
} from './files.ts';
import { type FileKeeper, NO_KEEPER } from './file-keeper.ts';
import type { LockMode } from './mode.ts';
import type { OwnFile } from './own-files.ts';
import { type Hold, type HoldEnd, isSameOwner, isSameRegistration, type OwnerIdentity } from './owner.ts';

const { EAGAIN } = constants.errno;

/** A held resource. There may be a hundred thousand of them, so memory counts. */
export class Resource {
  readonly lockspace: Lockspace;
  readonly name: ByteString;
  /** Of the first acquire: it decides whether the file is unlinked at the end. */
  readonly mode: LockMode;
  readonly file: HeldFile;
  /** In the order of acquisition. */
  readonly holds: Hold[];
  /** The path that a state document gives, if the name gives another one. */
  private readonly elsewhere: ByteString | null;

  constructor(
    lockspace: Lockspace,
    name: ByteString,
    mode: LockMode,
    file: HeldFile,
    holds: Hold[],
    elsewhere: ByteString | null = null,
  ) {
    this.lockspace = lockspace;
    this.name = name;
    this.mode = mode;
    this.file = file;
    this.holds = holds;
    this.elsewhere = elsewhere;
  }

  get path(): ByteString {
    return this.elsewhere ?? joinPath(this.lockspace.directory, this.name);
  }

  isHeldBy(pid: number): boolean {
    for (const { owner } of this.holds) if (owner.pid === pid) return true;
    return false;
  }

  /** The index of the owner's first hold that is not being ended, or -1. */
  liveHoldOf(pid: number): number {
    const { holds } = this;
    for (let index = 0; index < holds.length; index++) {
      const hold = holds[index];
      if (hold?.owner.pid === pid && hold.end === undefined) return index;
    }
    return -1;
  }

  /** All its owners are being ended. */
  get isEnding(): boolean {
    return this.holds.every(({ end }) => end !== undefined);
  }

  /** Gives up the file, which nobody holds any more. */
  releaseFile(keeper: FileKeeper): void {
    const { lockspace, name, mode, file, elsewhere } = this;
    const unlink = mode.autocreate;
    if (elsewhere === null) releaseFile(file, lockspace.directory, name, unlink, keeper);
    else releaseFile(file, '', elsewhere, unlink, keeper);
  }
}

/** A lockspace: a directory, or the default one, in which names are paths. */
export interface Lockspace {
  /** The exact path it was created by; empty for the default one. */
  readonly directory: ByteString;
  readonly resources: TextTable<Resource>;
}

/** The holds of an owner. */
interface Holdings extends Account {
  /** Of its last hold: the next one shares it if it is the same. */
  identity: OwnerIdentity;
  /** A single resource needs no set. */
  resources: Resource | Set<Resource>;
}

/** A refused acquire. */
export interface Refusal {
  readonly lockspace: ByteString;
  readonly name: ByteString;
  readonly path: ByteString;
  readonly mode: LockMode;
  /** The resource that is in the way; absent when it is another process or host, or nobody. */
  readonly heldBy: Resource | undefined;
  /** The process that is in the way; -1 when that is unknown, 0 when it is this one or none. */
  readonly pid: number;
  /** The reply. */
  readonly error: RpcError;
  readonly hold: Hold;
}

/** Called at every change, in the order in which they happen. */
export interface LockObserver {
  acquired(resource: Resource, hold: Hold): void;
  released(resource: Resource, hold: Hold): void;
  refused(refusal: Refusal): void;
}

/** Records changes before a client can see them. No method may throw. */
export interface LockRecorder {
  lockspaceAdded(lockspace: Lockspace): void;
  /** The resource has a new hold, the last in its list. */
  holdGranted(resource: Resource, hold: Hold): void;
  /** The hold at an index is replaced. */
  holdReplaced(resource: Resource, index: number, hold: Hold): void;
  /** The holds at these indexes, in ascending order, are dropped, and others remain. */
  holdsDropped(resource: Resource, indexes: readonly number[]): void;
  /** Its last hold is dropped. Its file still has its lock and its name. */
  resourceReleasing(resource: Resource): void;
  /** Its file is unlocked and closed. */
  resourceReleased(resource: Resource): void;
  acquireRefused(): void;
}

const nothing = (): void => undefined;

export const NO_LOCK_RECORDER: LockRecorder = {
  lockspaceAdded: nothing,
  holdGranted: nothing,
  holdReplaced: nothing,
  holdsDropped: nothing,
  resourceReleasing: nothing,
  resourceReleased: nothing,
  acquireRefused: nothing,
};

/** The rest of work that is done in parts. */
export interface Rest {
  /** A part is being done. */
  readonly isRunning: boolean;
  /** Does a part. False when there was none left. */
  next(): boolean;
}

export class Lockspaces {
  private readonly unnamed: Lockspace = { directory: '', resources: new TextTable() };
  readonly byPath = new Map<ByteString, Lockspace>();
  readonly budget: Budget;
  readonly keeper: FileKeeper;
  /** New locks are POSIX locks, whatever the keeper says, because a program will take over that knows no other kind. */
  takesPosixOnly = false;
  private readonly byOwner = new NumberTable<Holdings>();
  /** The holds that each connection, by its id, has acquired. */
  private readonly byClient = new NumberTable<Account>();
  private readonly dialect: Dialect;
  private observer: LockObserver | undefined;
  recorder = NO_LOCK_RECORDER;
  /** Whether any hold is or was {@link Hold.unanswered}. */
  private hasUnanswered = false;
  private changed: Set<Resource> | null = null;
  /** Adopts the resources held before a restart that are not in the tables yet. */
  private rest: Rest | null = null;

  constructor(dialect: Dialect, budget = new Budget(), keeper = NO_KEEPER) {
    this.dialect = dialect;
    this.budget = budget;
    this.keeper = keeper;
  }

  observe(observer: LockObserver): void {
    this.observer = observer;
  }

  /** Returns a set that gets every resource which is acquired or released from now on. */
  noteChanges(): ReadonlySet<Resource> {
    return (this.changed = new Set());
  }

  forgetChanges(): void {
    this.changed = null;
  }

  /**
   * Resources held before a restart are adopted by and by, or all at once before the first look into the tables, which so are
   * always complete.
   */
  adoptLater(rest: Rest): void {
    this.rest = rest;
    adoptFilesLater(() => {
      this.adoptRest();
    });
  }

  private adoptRest(): void {
    while (this.adoptNext());
  }

  /** Adopts one more. False when there is none left. */
  adoptNext(): boolean {
    const { rest } = this;
    // Adoption itself looks into the tables.
    if (rest === null || rest.isRunning) return false;
    if (rest.next()) return true;
    this.rest = null;
    adoptFilesLater(null);
    return false;
  }

  /** The cost of all locks in bytes (see budget.ts), and the most that they may cost. */
  get memory(): { readonly used: number; readonly most: number } {
    this.adoptRest();
    return { used: this.budget.used, most: this.budget.limits.total };
  }

  get default(): Lockspace {
    this.adoptRest();
    return this.unnamed;
  }

  /** Held resources in all lockspaces. */
  get count(): number {
    this.adoptRest();
    let sum = this.default.resources.size;
    for (const { resources } of this.byPath.values()) sum += resources.size;
    return sum;
  }

  /** The number of pids that hold something. */
  get ownerCount(): number {
    this.adoptRest();
    return this.byOwner.size;
  }

  /** The pids that hold something. */
  get ownerPids(): number[] {
    this.adoptRest();
    return Array.from(this.byOwner.values(), ({ identity }) => identity.pid);
  }

  /** The resources that the owner with this pid holds. */
  heldBy(pid: number): ReadonlySet<Resource> {
    this.adoptRest();
    const resources = this.byOwner.get(pid)?.resources;
    return resources instanceof Resource ? new Set([resources]) : (resources ?? NOTHING);
  }

  find(path: ByteString): Lockspace | undefined {
    const lockspace = this.default;
    return path === '' ? lockspace : this.byPath.get(path);
  }

  *[Symbol.iterator](): IterableIterator<Lockspace> {
    yield this.default;
    yield* this.byPath.values();
  }

  /** Iterates over all held resources. May span loop turns; resources released in between are skipped. */
  *resources(): IterableIterator<Resource> {
    for (const { resources } of this) yield* resources.values();
  }

  /** Adds a lockspace, and makes its directory if that is missing. */
  create(path: ByteString): Lockspace {
    this.budget.admitLockspace(path);
    const type = fileType(path);
    if (type < 0) {
      const status = makeDirectories(path, this.dialect.looksForDirectories);
      if (status < 0) throw cannotCreate(path, status);
    } else if (type !== FileType.DIRECTORY) {
      throw new RpcError(
        ErrorCode.INTERNAL_ERROR,
        ErrorDomain.LOCKSPACE,
        `Lockspace location ${path} exists, but is not a directory`,
      );
    }
    return this.add(path);
  }

  /** Adds a lockspace without a check of its path. */
  add(path: ByteString): Lockspace {
    const lockspace = { directory: path, resources: new TextTable<Resource>() };
    this.byPath.set(path, lockspace);
    this.budget.addLockspace(path);
    this.recorder.lockspaceAdded(lockspace);
    return lockspace;
  }

  /** Makes the file of a resource that nobody holds, unless it exists. */
  createResource(lockspace: Lockspace, name: ByteString): void {
    this.assertFree(lockspace, name);
    const path = joinPath(lockspace.directory, name);
    const status = createFile(path);
    // Not domain LOCKSPACE: C reports it from another module.
    if (status < 0) throw systemError(ErrorDomain.NONE, status, `cannot create file '${path}'`);
  }

  /** Unlinks the file, if it exists, of a resource that nobody holds, here or on another host. */
  deleteResource(lockspace: Lockspace, name: ByteString): void {
    this.assertFree(lockspace, name);
    const path = joinPath(lockspace.directory, name);
    const held = findHeld(path);
    // C compares names only, and deletes a file that is held under another name.
    if (held.length > 0) {
      awaitEnds(this.resourcesOf(held));
      throw busy(name);
    }
    const own = findOwn(path);
    if (own !== undefined) throw ownFile(name, own);
    const status = deleteFile(path);
    if (status === -EAGAIN) throw busy(name);
    if (status < 0) throw systemError(ErrorDomain.LOCKSPACE, status, `Unable to delete lockspace resource ${path}`);
  }

  /** @throws RpcError; Waiting, when only owners that are being ended are in the way */
  acquire(lockspace: Lockspace, name: ByteString, mode: LockMode, hold: Hold): void {
    const present = lockspace.resources.get(name);
    if (present !== undefined) {
      if (this.hasUnanswered && this.grantAgain(present, mode, hold)) return;
      if (!present.mode.shared || !mode.shared || !present.file.locked) {
        awaitEnds([present]);
        throw this.reportRefusal(lockspace, name, mode, hold, busy(name), present);
      }
      const cost = this.admit(lockspace, name, mode, hold);
      present.holds.push(hold);
      this.granted(present, hold, cost);
      return;
    }
    const cost = this.admit(lockspace, name, mode, hold);
    const chooser = this.keeper.isKeeping && !this.takesPosixOnly ? this.keeper : null;
    const file = lockFile(lockspace.directory, name, mode.shared, mode.autocreate, chooser);
    if (!(file instanceof HeldFile)) {
      const { error, heldBy, pid } = this.toError(lockspace, name, mode, file);
      throw this.reportRefusal(lockspace, name, mode, hold, error, heldBy, pid);
    }
    if (file.references === 1) this.keeper.locked(file);
    const resource = new Resource(lockspace, name, mode, file, [hold]);
    lockspace.resources.set(name, resource);
    this.granted(resource, hold, cost);
  }

  /** Adds a resource of a state document, whose file is open and locked already. It is not reported to the observer. */
  restoreResource(
    lockspace: Lockspace,
    name: ByteString,
    path: ByteString,
    mode: LockMode,
    file: HeldFile,
    holds: Hold[],
  ): void {
    const elsewhere = path === joinPath(lockspace.directory, name) ? null : path;
    const resource = new Resource(lockspace, name, mode, file, holds, elsewhere);
    lockspace.resources.set(name, resource);
    for (const hold of holds) {
      this.indexHold(resource, hold, holdCost(lockspace.directory, name, hold.owner.name));
      if (hold.unanswered === true) this.hasUnanswered = true;
    }
  }

  /** Grants an acquire that the owner repeats: its hold replaces the {@link Hold.unanswered} one. False when there is none. */
  private grantAgain(resource: Resource, mode: LockMode, hold: Hold): boolean {
    const { holds, lockspace, name } = resource;
    const index = holds.findIndex(({ unanswered, end, owner }) => {
      return unanswered === true && end === undefined && isSameRegistration(owner, hold.owner);
    });
    const before = holds[index];
    if (before === undefined || resource.mode !== mode) return false;
    holds[index] = hold;
    this.forgetHold(resource, before, false);
    this.indexHold(resource, hold, holdCost(lockspace.directory, name, hold.owner.name));
    this.changed?.add(resource);
    this.recorder.holdReplaced(resource, index, hold);
    return true;
  }

  /** Returns the hold's cost. @throws RpcError when there is no room for it */
  private admit(lockspace: Lockspace, name: ByteString, mode: LockMode, hold: Hold): number {
    const { owner, client } = hold;
    const cost = holdCost(lockspace.directory, name, owner.name);
    try {
      this.budget.admit(cost, this.byOwner.get(owner.pid), this.byClient.get(client));
    } catch (error) {
      throw error instanceof LimitError ? this.reportRefusal(lockspace, name, mode, hold, error) : error;
    }
    return cost;
  }

  private granted(resource: Resource, hold: Hold, cost: number): void {
    this.indexHold(resource, hold, cost);
    this.changed?.add(resource);
    this.recorder.holdGranted(resource, hold);
    this.observer?.acquired(resource, hold);
  }

  /** Enters a hold by its owner, and counts its cost. */
  private indexHold(resource: Resource, hold: Hold, cost: number): void {
    const { pid } = hold.owner;
    let holdings = this.byOwner.get(pid);
    if (holdings === undefined) {
      holdings = { cost: 0, identity: hold.owner, resources: resource };
      this.byOwner.set(pid, holdings);
    } else {
      if (isSameOwner(holdings.identity, hold.owner)) hold.owner = holdings.identity;
      else holdings.identity = hold.owner;
      const { resources } = holdings;
      if (!(resources instanceof Resource)) resources.add(resource);
      else if (resources !== resource) holdings.resources = new Set([resources, resource]);
    }
    this.budget.count(cost);
    holdings.cost += cost;
    const account = this.byClient.get(hold.client);
    if (account === undefined) this.byClient.set(hold.client, { cost });
    else account.cost += cost;
  }

  /**
   * The reverse of {@link indexHold}, for a hold that is not in the resource's list any more.
   *
   * @param isLast it is the owner's last one on the resource
   */
  private forgetHold(resource: Resource, { owner, client }: Hold, isLast: boolean): void {
    const cost = holdCost(resource.lockspace.directory, resource.name, owner.name);
    this.budget.count(-cost);
    const account = this.byClient.get(client);
    if (account !== undefined && (account.cost -= cost) === 0) this.byClient.delete(client);
    const holdings = this.byOwner.get(owner.pid);
    if (holdings === undefined) return;
    holdings.cost -= cost;
    if (!isLast) return;
    const { resources } = holdings;
    if (resources instanceof Set) resources.delete(resource);
    if (resources === resource || (resources instanceof Set && resources.size === 0)) this.byOwner.delete(owner.pid);
  }

  /** @throws RpcError; Waiting, when the owner is being ended: that releases its holds */
  release(lockspace: Lockspace, name: ByteString, pid: number): void {
    const resource = lockspace.resources.get(name);
    const index = resource?.liveHoldOf(pid) ?? -1;
    if (resource !== undefined && index >= 0) {
      this.dropped(resource, resource.holds.splice(index, 1), [index]);
      return;
    }
    if (resource !== undefined) awaitEnds([resource]);
    // C has released the holds of an owner that ended by now.
    if (resource === undefined || resource.isEnding) {
      throw new RpcError(ErrorCode.RESOURCE_BUSY, ErrorDomain.LOCKSPACE, `Lockspace resource '${name}' is not locked`);
    }
    throw new RpcError(
      ErrorCode.INTERNAL_ERROR,
      ErrorDomain.LOCKSPACE,
      // Signed, as C prints it.
      `owner ${pid | 0} does not hold the resource lock`,
    );
  }

  /** Releases the holds of an owner whose process is gone. */
  releaseEnded(resource: Resource, end: HoldEnd): void {
    this.dropHolds(resource, (hold) => hold.end === end);
  }

  /** Releases all holds, as the daemon's own end does. */
  endResource(resource: Resource): void {
    this.dropHolds(resource, () => true);
  }

  /** Drops a hold whose acquire was not answered. */
  undo(resource: Resource, undone: Hold): void {
    this.dropHolds(resource, (hold) => hold === undone);
  }

  /** In one pass: there may be very many holds on one resource. */
  private dropHolds(resource: Resource, goes: (hold: Hold) => boolean): void {
    const { holds } = resource;
    const gone: Hold[] = [];
    const indexes: number[] = [];
    let stay = 0;
    for (const [index, hold] of holds.entries()) {
      if (goes(hold)) {
        gone.push(hold);
        indexes.push(index);
      } else holds[stay++] = hold;
    }
    holds.length = stay;
    if (gone.length > 0) this.dropped(resource, gone, indexes);
  }

  /**
   * @param gone holds that were removed from the resource's list; those of one owner follow each other
   * @param indexes their former indexes
   */
  private dropped(resource: Resource, gone: readonly Hold[], indexes: readonly number[]): void {
    let last = -1;
    for (const hold of gone) {
      const { pid } = hold.owner;
      this.forgetHold(resource, hold, pid !== last && !resource.isHeldBy(pid));
      last = pid;
    }
    this.changed?.add(resource);
    if (resource.holds.length === 0) {
      this.recorder.resourceReleasing(resource);
      resource.lockspace.resources.delete(resource.name);
      resource.releaseFile(this.keeper);
      this.recorder.resourceReleased(resource);
    } else this.recorder.holdsDropped(resource, indexes);
    for (const hold of gone) this.observer?.released(resource, hold);
  }

  private assertFree({ resources }: Lockspace, name: ByteString): void {
    const resource = resources.get(name);
    if (resource === undefined) return;
    awaitEnds([resource]);
    throw busy(name);
  }

  /** Reports a refused acquire to the observer, and returns the error. */
  reportRefusal(
    { directory }: Pick<Lockspace, 'directory'>,
    name: ByteString,
    mode: LockMode,
    hold: Hold,
    error: RpcError,
    heldBy?: Resource,
    pid = 0,
  ): RpcError {
    const path = heldBy?.path ?? joinPath(directory, name);
    this.observer?.refused({ lockspace: directory, name, path, mode, heldBy, pid, error, hold });
    this.recorder.acquireRefused();
    return error;
  }

  /** The error for a file that could not be locked, and the resource that is in the way. @throws Waiting */
  private toError(
    { directory }: Lockspace,
    name: ByteString,
    { autocreate }: LockMode,
    failure: LockFailure,
  ): { readonly error: RpcError; readonly heldBy?: Resource | undefined; readonly pid?: number } {
    switch (failure.kind) {
      case 'own':
        return { error: ownFile(name, failure.file) };
      case 'busy': {
        const inTheWay = failure.file === undefined ? [] : this.resourcesOf([failure.file]);
        awaitEnds(inTheWay);
        return { error: busy(name), heldBy: inTheWay[0], pid: failure.pid };
      }
      case 'lock':
      case 'open': {
        const path = joinPath(directory, name);
        const detail =
          failure.kind === 'lock'
            ? `Unable to acquire lock on '${path}'`
            : `Unable to open${autocreate ? '/create' : ''} resource ${path}`;
        return { error: systemError(ErrorDomain.LOCKSPACE, failure.errno, detail) };
      }
    }
  }

  /** The resources that hold the files, by whatever names. A search of all resources, for refusals only. */
  private resourcesOf(files: readonly HeldFile[]): Resource[] {
    const found: Resource[] = [];
    for (const resource of this.resources()) if (files.includes(resource.file)) found.push(resource);
    return found;
  }
}

/** Has the caller wait if only owners that are being ended hold the resources. @throws Waiting */
function awaitEnds(resources: readonly Resource[]): void {
  const ends = resources.flatMap(({ holds }) => holds.map(({ end }) => end));
  const [first] = ends;
  // The holds of an owner that is gone are released within the next slices: C would have released them by now.
  if (first !== undefined && ends.every((end) => end?.isAwaited === true || end?.isGone === true))
    throw new Waiting((done) => first.wait(done));
}

const NOTHING: ReadonlySet<Resource> = new Set();

function busy(name: ByteString): RpcError {
  return new RpcError(ErrorCode.RESOURCE_BUSY, ErrorDomain.LOCKSPACE, `Lockspace resource '${name}' is locked`);
}

function ownFile(name: ByteString, { purpose }: OwnFile): RpcError {
  const detail = `Lockspace resource '${name}' is locked: it is the daemon's own ${purpose}`;
  return new RpcError(ErrorCode.RESOURCE_BUSY, ErrorDomain.LOCKSPACE, detail);
}

function cannotCreate(path: ByteString, error: number): RpcError {
  return systemError(ErrorDomain.LOCKSPACE, error, `Unable to create lockspace ${path}`);
}
