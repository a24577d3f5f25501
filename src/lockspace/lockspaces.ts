/**
 * Lockspaces and the resources held in them: what acquire, release, create and delete do, and what an owner's end does.
 * Only held resources are known; all others are files that nobody asks about. Two indices make every request cost what
 * it touches: resources by lockspace and exact name, and by owner pid.
 */
import os from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { FileType, posix } from '../posix/posix.ts';
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
import type { OwnFile } from './own-files.ts';
import { type Hold, type HoldEnd, isSameOwner, isSameRegistration, type OwnerIdentity } from './owner.ts';

const { EAGAIN } = os.constants.errno;

/** How a resource is acquired. */
export interface LockMode {
  /** Others may hold it as well who share it. */
  readonly shared: boolean;
  /** The file is made if it is missing, and unlinked when nobody holds it any more. */
  readonly autocreate: boolean;
}

/** A resource that is held. There may be a hundred thousand of them: one takes no more than it must. */
export class Resource {
  readonly lockspace: Lockspace;
  readonly name: ByteString;
  /** Of the first acquire: they decide what happens to the file at the end. */
  readonly mode: LockMode;
  readonly file: HeldFile;
  /** One entry a hold, in the order of acquisition. */
  readonly holds: Hold[];
  /** Where a state document says that the file is, if that is not where the name puts it. */
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

  /** The file's path. */
  get path(): ByteString {
    return this.elsewhere ?? joinPath(this.lockspace.directory, this.name);
  }

  /** Whether the owner has a hold on it. */
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

/** What an owner holds. */
interface Holdings extends Account {
  /** Of its last hold: the next one shares it if it is the same. */
  identity: OwnerIdentity;
  /** An only resource needs no set around it. */
  resources: Resource | Set<Resource>;
}

/** A refused acquire, for whoever keeps account of them. */
export interface Refusal {
  readonly lockspace: ByteString;
  readonly name: ByteString;
  readonly path: ByteString;
  readonly mode: LockMode;
  /** The resource that is in the way; absent when it is another process or host, or nobody. */
  readonly heldBy: Resource | undefined;
  /** The process that is in the way; -1 when that is not known, 0 when there is none but ourselves. */
  readonly pid: number;
  /** What the client is told. */
  readonly error: RpcError;
  readonly hold: Hold;
}

/** Told of every change, in the order in which they happen. */
export interface LockObserver {
  acquired(resource: Resource, hold: Hold): void;
  released(resource: Resource, hold: Hold): void;
  refused(refusal: Refusal): void;
}

/** Writes down what changes, before anybody hears of it. Nothing may be thrown. */
export interface LockRecorder {
  lockspaceAdded(lockspace: Lockspace): void;
  /** The last of the resource's holds was granted just now. */
  holdGranted(resource: Resource, hold: Hold): void;
  /** The hold at an index is another one now. */
  holdReplaced(resource: Resource, index: number, hold: Hold): void;
  /** The holds at these indexes, in ascending order, are gone, and there are others. */
  holdsDropped(resource: Resource, indexes: readonly number[]): void;
  /** Nobody holds it any more. Its file is locked still, and has its name. */
  resourceReleasing(resource: Resource): void;
  /** Nothing is left of it. */
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

/** What is left to do of something that is done in parts. */
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
  /** New locks are POSIX ones, whatever the keeper says: a program is to take over that knows no others. */
  takesPosixOnly = false;
  private readonly byOwner = new NumberTable<Holdings>();
  /** What was acquired through each connection, by its id, and is held still. */
  private readonly byClient = new NumberTable<Account>();
  private readonly dialect: Dialect;
  private observer: LockObserver | undefined;
  recorder = NO_LOCK_RECORDER;
  /** There are or were holds that are {@link Hold.unanswered}. */
  private hasUnanswered = false;
  private changed: Set<Resource> | null = null;
  /** Adopts what was held before a restart and is not in the tables yet. */
  private rest: Rest | null = null;

  constructor(dialect: Dialect, budget = new Budget(), keeper = NO_KEEPER) {
    this.dialect = dialect;
    this.budget = budget;
    this.keeper = keeper;
  }

  observe(observer: LockObserver): void {
    this.observer = observer;
  }

  /** The resources that are acquired or released from now on. */
  noteChanges(): ReadonlySet<Resource> {
    return (this.changed = new Set());
  }

  forgetChanges(): void {
    this.changed = null;
  }

  /**
   * Of what was held before a restart, the rest is adopted when there is time, or at once when somebody asks for anything that is
   * held: no table is looked at that is not complete.
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
    // What adopts may itself come by here.
    if (rest === null || rest.isRunning) return false;
    if (rest.next()) return true;
    this.rest = null;
    adoptFilesLater(null);
    return false;
  }

  /** Bytes of memory that the locks are counted with, and the most that there may be of them. */
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

  /** Owners, by their pids, that hold something. */
  get ownerCount(): number {
    this.adoptRest();
    return this.byOwner.size;
  }

  /** What the owner with this pid holds. */
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

  /** Every held resource; told over a while, each as long as it is held. */
  *resources(): IterableIterator<Resource> {
    for (const { resources } of this) yield* resources.values();
  }

  /** Makes a lockspace that is not known yet, and its directory if that is missing. */
  create(path: ByteString): Lockspace {
    this.budget.admitLockspace(path);
    const type = posix.fileType(path);
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

  /** Enters a lockspace, whatever is at its path. */
  add(path: ByteString): Lockspace {
    const lockspace = { directory: path, resources: new TextTable<Resource>() };
    this.byPath.set(path, lockspace);
    this.budget.addLockspace(path);
    this.recorder.lockspaceAdded(lockspace);
    return lockspace;
  }

  /** Makes the file of a resource that nobody holds. One that exists is fine. */
  createResource(lockspace: Lockspace, name: ByteString): void {
    this.assertFree(lockspace, name);
    const path = joinPath(lockspace.directory, name);
    const status = createFile(path);
    // Not domain LOCKSPACE: C reports it from a helper of its own.
    if (status < 0) throw systemError(ErrorDomain.NONE, status, `cannot create file '${path}'`);
  }

  /** Unlinks the file of a resource that nobody holds, here or on another host. None is fine. */
  deleteResource(lockspace: Lockspace, name: ByteString): void {
    this.assertFree(lockspace, name);
    const path = joinPath(lockspace.directory, name);
    const held = findHeld(path);
    // C looks at names only, and deletes what is held under another.
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

  /** @throws RpcError; Waiting, when what is in the way is held by owners that are being ended */
  acquire(lockspace: Lockspace, name: ByteString, mode: LockMode, hold: Hold): void {
    const present = lockspace.resources.get(name);
    if (present !== undefined) {
      if (this.hasUnanswered && this.grantAgain(present, mode, hold)) return;
      if (!present.mode.shared || !mode.shared || !present.file.locked) {
        awaitEnds([present]);
        throw this.reportRefusal(lockspace, name, mode, hold, busy(name), present);
      }
      this.admit(lockspace, name, mode, hold);
      this.addHold(present, hold);
      return;
    }
    this.admit(lockspace, name, mode, hold);
    const chooser = this.keeper.isKeeping && !this.takesPosixOnly ? this.keeper : null;
    const file = lockFile(lockspace.directory, name, mode.shared, mode.autocreate, chooser);
    if (!(file instanceof HeldFile)) {
      const { error, heldBy, pid } = this.toError(lockspace, name, mode, file);
      throw this.reportRefusal(lockspace, name, mode, hold, error, heldBy, pid);
    }
    if (file.references === 1) this.keeper.locked(file);
    const resource = new Resource(lockspace, name, mode, file, [hold]);
    lockspace.resources.set(name, resource);
    this.indexHold(resource, hold);
  }

  /** A resource as a state document knows it, its file open and locked already. To the observer it is nothing new. */
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
      this.indexOwner(resource, hold);
      if (hold.unanswered === true) this.hasUnanswered = true;
    }
  }

  /** Whether the owner has made this call before, and its hold is there although the call may never have been answered. */
  private grantAgain(resource: Resource, mode: LockMode, hold: Hold): boolean {
    const { holds } = resource;
    const index = holds.findIndex(({ unanswered, end, owner }) => {
      return unanswered === true && end === undefined && isSameRegistration(owner, hold.owner);
    });
    const before = holds[index];
    if (before === undefined || resource.mode !== mode) return false;
    this.discharge(resource, before);
    holds[index] = hold;
    this.indexOwner(resource, hold);
    this.changed?.add(resource);
    this.recorder.holdReplaced(resource, index, hold);
    return true;
  }

  private addHold(resource: Resource, hold: Hold): void {
    resource.holds.push(hold);
    this.indexHold(resource, hold);
  }

  /** @throws RpcError when the hold would cost more than there may be */
  private admit(lockspace: Lockspace, name: ByteString, mode: LockMode, hold: Hold): void {
    const { owner, client } = hold;
    const cost = holdCost(lockspace.directory, name, owner.name);
    try {
      this.budget.admit(cost, this.byOwner.get(owner.pid), this.byClient.get(client));
    } catch (error) {
      throw error instanceof LimitError ? this.reportRefusal(lockspace, name, mode, hold, error) : error;
    }
  }

  private indexHold(resource: Resource, hold: Hold): void {
    this.indexOwner(resource, hold);
    this.changed?.add(resource);
    this.recorder.holdGranted(resource, hold);
    this.observer?.acquired(resource, hold);
  }

  private indexOwner(resource: Resource, hold: Hold): void {
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
    this.charge(resource, hold, holdings);
  }

  /** Counts the cost of a hold. */
  private charge({ lockspace, name }: Resource, { owner, client }: Hold, holdings: Account): void {
    const cost = holdCost(lockspace.directory, name, owner.name);
    this.budget.count(cost);
    holdings.cost += cost;
    const account = this.byClient.get(client);
    if (account === undefined) this.byClient.set(client, { cost });
    else account.cost += cost;
  }

  /** Takes the cost of a hold that is gone off again. */
  private discharge({ lockspace, name }: Resource, { owner, client }: Hold): void {
    const cost = holdCost(lockspace.directory, name, owner.name);
    this.budget.count(-cost);
    const holdings = this.byOwner.get(owner.pid);
    if (holdings !== undefined) holdings.cost -= cost;
    const account = this.byClient.get(client);
    if (account === undefined) return;
    account.cost -= cost;
    if (account.cost === 0) this.byClient.delete(client);
  }

  private forgetHolding(resource: Resource, pid: number): void {
    const resources = this.byOwner.get(pid)?.resources;
    if (resources === resource) this.byOwner.delete(pid);
    else if (resources !== undefined && !(resources instanceof Resource)) {
      resources.delete(resource);
      if (resources.size === 0) this.byOwner.delete(pid);
    }
  }

  /** @throws RpcError; Waiting, when the owner is being ended, whose holds are released by that */
  release(lockspace: Lockspace, name: ByteString, pid: number): void {
    const resource = lockspace.resources.get(name);
    const index = resource?.liveHoldOf(pid) ?? -1;
    if (resource !== undefined && index >= 0) {
      this.dropped(resource, resource.holds.splice(index, 1), [index]);
      return;
    }
    if (resource !== undefined) awaitEnds([resource]);
    // C has released by now what an owner held that ended.
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

  /** Releases what an owner holds that is gone. */
  releaseEnded(resource: Resource, end: HoldEnd): void {
    this.dropHolds(resource, (hold) => hold.end === end);
  }

  /** Ends a resource whoever holds it, as the daemon's own end does. */
  endResource(resource: Resource): void {
    this.dropHolds(resource, () => true);
  }

  /** Takes a hold back that nobody has heard of. */
  undo(resource: Resource, undone: Hold): void {
    this.dropHolds(resource, (hold) => hold === undone);
  }

  /** In one pass: an owner may have very many holds on one resource, beside those of others. */
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
   * These holds are not in the resource's list any more; those of one owner follow each other.
   *
   * @param indexes where they were
   */
  private dropped(resource: Resource, gone: readonly Hold[], indexes: readonly number[]): void {
    let last = -1;
    for (const hold of gone) {
      const { owner } = hold;
      this.discharge(resource, hold);
      if (owner.pid !== last && !resource.isHeldBy(owner.pid)) this.forgetHolding(resource, owner.pid);
      last = owner.pid;
    }
    this.changed?.add(resource);
    if (resource.holds.length === 0) {
      resource.lockspace.resources.delete(resource.name);
      this.recorder.resourceReleasing(resource);
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

  /** The error of a file that could not be locked, and what is in the way. @throws Waiting */
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

  /** The resources that hold the files, under whatever names. Checks all of them: only a refusal asks. */
  private resourcesOf(files: readonly HeldFile[]): Resource[] {
    const found: Resource[] = [];
    for (const resource of this.resources()) if (files.includes(resource.file)) found.push(resource);
    return found;
  }
}

/** Has the caller wait if nobody holds the resources but owners that are being ended. @throws Waiting */
function awaitEnds(resources: readonly Resource[]): void {
  const ends = resources.flatMap(({ holds }) => holds.map(({ end }) => end));
  const [first] = ends;
  // Of one that is gone, what is left for the next slices is released in a moment: C would have released it by now.
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
