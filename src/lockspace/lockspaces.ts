/**
 * Lockspaces and the resources held in them: acquire, release, create, delete, and the release of an owner that has ended. The tables
 * know held resources only. Two indices keep the cost of every request to the resources it names: by lockspace and exact name, and by
 * owner pid.
 */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { FileType } from '../posix/posix.ts';
import { NumberTable, TextTable } from './table.ts';
import type { Dialect } from '../libvirt/dialect.ts';
import { RpcError, systemError } from '../libvirt/errors.ts';
import { type Ending, Waiting } from '../rpc/waiting.ts';
import { type Account, Budget, holdCost, LimitError } from './budget.ts';
import {
  adoptFilesLater,
  createFile,
  deleteFile,
  findKnown,
  HeldFile,
  joinPath,
  localDirectories,
  lockFile,
  type LockFailure,
  makeDirectories,
  releaseFile,
} from './files.ts';
import { type FileKeeper, NO_KEEPER } from './file-keeper.ts';
import { HoldIndex, MIN_INDEXED } from './hold-index.ts';
import { type LookElsewhere, noteOf } from './holder-notes.ts';
import type { LockWatch } from './lock-watch.ts';
import type { LockMode } from './mode.ts';
import type { OwnFile } from './own-files.ts';
import type { Release } from './release.ts';
import type { RemoteCalls } from './remote-calls.ts';
import type { RemoteFiles } from './remote-files.ts';
import { type Place, placeOfNode } from '../proc/route.ts';
import { type Hold, type HoldEnd, isSameOwner, isSameRegistration, type OwnerIdentity } from './owner.ts';

const { EAGAIN, ENXIO } = constants.errno;

/** Holds that were removed from a resource's list, in its order, and their former indexes. */
interface RemovedHolds {
  readonly removed: readonly Hold[];
  readonly indexes: readonly number[];
}

/** A held resource. There may be a hundred thousand of them, so memory counts. */
export class Resource {
  readonly lockspace: Lockspace;
  readonly name: ByteString;
  /** Of the first acquire: it decides whether the file is unlinked at the end. */
  readonly mode: LockMode;
  readonly file: HeldFile;
  /** The holds, and those of which the places are empty: see {@link HoldIndex}. */
  private readonly places: Hold[];
  private index: HoldIndex | null = null;
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
    this.places = holds;
    this.elsewhere = elsewhere;
  }

  get path(): ByteString {
    return this.elsewhere ?? joinPath(this.lockspace.directory, this.name);
  }

  /** Nobody holds it any more, and its file is being released: by a storage helper, or once its file system is not frozen any more. */
  get release(): Release | null {
    return this.file.release;
  }

  /** In the order of acquisition. */
  get holds(): readonly Hold[] {
    if (this.index?.hasEmpty === true) this.compact(this.index);
    return this.places;
  }

  get holdCount(): number {
    return this.places.length - (this.index?.emptyCount ?? 0);
  }

  isHeldBy(pid: number): boolean {
    return this.placeOf(pid, () => true) >= 0;
  }

  /** The place of the owner's first hold that is not being ended, or -1. */
  liveHoldOf(pid: number): number {
    return this.placeOf(pid, ({ end }) => end === undefined);
  }

  private placeOf(pid: number, isMet: (hold: Hold) => boolean): number {
    const { places } = this;
    const isPlace = (place: number): boolean => {
      const hold = places[place];
      return hold?.owner.pid === pid && isMet(hold);
    };
    if (places.length < MIN_INDEXED) return places.findIndex((_, place) => isPlace(place));
    return (this.index ??= new HoldIndex(places)).find(pid, isPlace);
  }

  addHold(hold: Hold): void {
    this.index?.add(hold, this.places.length);
    this.places.push(hold);
  }

  /** Replaces the hold at an index by one of the same owner. */
  replaceHold(index: number, hold: Hold): void {
    this.places[index] = hold;
  }

  /** Removes the owner's hold at a place. */
  removeHold(pid: number, place: number): RemovedHolds {
    const { places, index } = this;
    if (index === null) return { removed: places.splice(place, 1), indexes: [place] };
    const removed = places.slice(place, place + 1);
    const indexes = [index.remove(pid, place)];
    if (index.isDue(places.length)) this.compact(index);
    return { removed, indexes };
  }

  /** In one pass: there may be very many holds on one resource. */
  removeHolds(goes: (hold: Hold) => boolean): RemovedHolds {
    const removed: Hold[] = [];
    const indexes: number[] = [];
    let stay = 0;
    for (const [index, hold] of this.holds.entries()) {
      if (goes(hold)) {
        removed.push(hold);
        indexes.push(index);
      } else this.places[stay++] = hold;
    }
    this.places.length = stay;
    this.index = null;
    return { removed, indexes };
  }

  private compact(index: HoldIndex): void {
    index.compact(this.places);
    this.index = null;
  }

  /** All its owners are being ended. */
  get isEnding(): boolean {
    return this.holds.every(({ end }) => end !== undefined);
  }

  /** Gives up the file. If a storage helper has it, other resources must hold it. */
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
  /** Finds out more about whoever is in the way; null: nothing more is to be found out. */
  readonly look: LookElsewhere | null;
  /** The reply. */
  readonly error: RpcError;
  readonly hold: Hold;
}

/** Who is in the way of an acquire: see {@link Refusal}. */
type Reason = Pick<Refusal, 'error'> & Partial<Pick<Refusal, 'heldBy' | 'pid' | 'look'>>;

/** Called at every change, in the order in which they happen. */
export interface LockObserver {
  acquired(resource: Resource, hold: Hold): void;
  released(resource: Resource, hold: Hold): void;
  refused(refusal: Refusal): void;
  /** The lock of a resource was lost, or is taken again. @param isNew it was held before */
  lockChanged(resource: Resource, isNew: boolean): void;
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
  /** Its lock was lost, or is taken again. */
  lockChanged(resource: Resource): void;
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
  lockChanged: nothing,
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
  /** The number of holds that are {@link Hold.unanswered}. */
  private unanswered = 0;
  /** Whether an owner was restored since the last {@link takeUnregistered} that has registered with a C daemon. */
  private hasUnregistered = false;
  private changed: Set<Resource> | null = null;
  /** Adopts the resources held before a restart that are not in the tables yet. */
  private rest: Rest | null = null;
  /** Releases files that storage helpers keep. Null: there are none. */
  remoteFiles: RemoteFiles | null = null;
  /** Confirms the locks that storage helpers keep. Null: nobody does. */
  lockWatch: Pick<LockWatch, 'granted'> | null = null;
  /** What to wait for when the owner of a hold has ended and this has not been seen yet; null: it has not ended. */
  unseenEndOf: (hold: Hold) => Ending | null = () => null;

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
   * Adopts the resources held before a restart one by one, or all at once before the first look into the tables: whoever looks finds
   * them complete.
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

  /** Owners of whom a C daemon's document has the pid alone: each is returned once. */
  takeUnregistered(): OwnerIdentity[] {
    this.adoptRest();
    if (!this.hasUnregistered) return [];
    this.hasUnregistered = false;
    const owners = new Set<OwnerIdentity>();
    for (const { holds } of this.resources()) for (const { owner } of holds) if (owner.id === 0) owners.add(owner);
    return [...owners];
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
  create(path: ByteString, remote: RemoteCalls | null = null): Lockspace {
    this.budget.admitLockspace(path);
    const calls = remote?.directoriesAt(path) ?? localDirectories;
    const type = calls.typeOf(path);
    if (type < 0) {
      if (calls === localDirectories) remote?.awaitThaw('', path);
      const status = makeDirectories(path, this.dialect.looksForDirectories, calls);
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
  createResource(lockspace: Lockspace, name: ByteString, remote: RemoteCalls | null = null): void {
    const path = joinPath(lockspace.directory, name);
    const place = remote?.placeAt(path) ?? null;
    this.assertFree(lockspace, name);
    if (place === null) remote?.awaitThaw(lockspace.directory, name);
    const made = remote === null || place === null ? createFile(path, remote !== null) : remote.create(place, path);
    const status = typeof made === 'number' ? made : (remote?.create(placeOfNode(made.stat), path) ?? -ENXIO);
    // Not domain LOCKSPACE: C reports it from another module.
    if (status < 0) throw systemError(ErrorDomain.NONE, status, `cannot create file '${path}'`);
  }

  /** Unlinks the file, if it exists, of a resource that nobody holds, here or on another host. */
  deleteResource(lockspace: Lockspace, name: ByteString, remote: RemoteCalls | null = null): void {
    const path = joinPath(lockspace.directory, name);
    const place = remote?.placeAt(path) ?? null;
    this.assertFree(lockspace, name);
    const { held, own } = remote === null || place === null ? findKnown(path) : remote.findKnown(place, path);
    // C compares names only, and deletes a file that is held under another name.
    if (held.length > 0) {
      this.awaitEnds(this.resourcesOf(held));
      throw busy(name);
    }
    if (own !== undefined) throw ownFile(name, own);
    if (place === null) remote?.awaitThaw(lockspace.directory, name);
    const status = remote === null || place === null ? deleteFile(path) : remote.delete(place, path);
    if (status === -EAGAIN) throw busy(name);
    if (status < 0) throw systemError(ErrorDomain.LOCKSPACE, status, `Unable to delete lockspace resource ${path}`);
  }

  /** @throws RpcError; Waiting, when only owners that are being ended are in the way, or for storage that may hang */
  acquire(lockspace: Lockspace, name: ByteString, mode: LockMode, hold: Hold, remote: RemoteCalls | null = null): void {
    const place = remote?.mayNeed === true ? remote.placeAt(joinPath(lockspace.directory, name)) : null;
    const present = lockspace.resources.get(name);
    if (present !== undefined) {
      awaitRelease(present);
      if (this.unanswered > 0 && this.grantAgain(present, mode, hold)) return;
      if (!present.mode.shared || !mode.shared || !present.file.locked) {
        this.awaitEnds([present]);
        throw this.reportRefusal(lockspace, name, mode, hold, { error: busy(name), heldBy: present });
      }
      const cost = this.admit(lockspace, name, mode, hold);
      present.addHold(hold);
      this.granted(present, hold, cost);
      this.remoteFiles?.notes.changed(present);
      return;
    }
    const cost = this.admit(lockspace, name, mode, hold);
    if (mode.autocreate && place === null) remote?.awaitThaw(lockspace.directory, name, hold.owner.pid);
    const file = this.lock(lockspace, name, mode, hold, remote, place);
    if (!(file instanceof HeldFile)) {
      const reason = this.toError(lockspace, name, mode, file);
      const look = place === null ? null : lookAt(file, lockspace, name, remote, place);
      throw this.reportRefusal(lockspace, name, mode, hold, { ...reason, look });
    }
    if (file.references === 1) this.keeper.locked(file);
    const resource = new Resource(lockspace, name, mode, file, [hold]);
    lockspace.resources.set(name, resource);
    this.granted(resource, hold, cost);
    if (file.remote !== null) this.lockWatch?.granted(resource);
  }

  private lock(
    { directory }: Lockspace,
    name: ByteString,
    mode: LockMode,
    hold: Hold,
    remote: RemoteCalls | null,
    place: Place | null,
  ): HeldFile | LockFailure {
    const path = joinPath(directory, name);
    const { pid } = hold.owner;
    if (remote !== null && place !== null)
      return remote.acquire(place, path, mode, pid, noteOf(directory, mode, [hold]));
    const chooser = this.keeper.isKeeping && !this.takesPosixOnly ? this.keeper : null;
    const file = lockFile(directory, name, mode.shared, mode.autocreate, chooser, remote !== null);
    if (file instanceof HeldFile || file.kind !== 'node') return file;
    return remote === null ? { kind: 'open', errno: ENXIO } : remote.acquire(placeOfNode(file.stat), path, mode, pid);
  }

  /** Adds a resource of a state document, whose file is open and locked already. It is not reported to the observer. */
  restoreResource(
    lockspace: Lockspace,
    name: ByteString,
    path: ByteString,
    mode: LockMode,
    file: HeldFile,
    holds: Hold[],
    release: Release | null = null,
  ): void {
    const elsewhere = path === joinPath(lockspace.directory, name) ? null : path;
    const resource = new Resource(lockspace, name, mode, file, holds, elsewhere);
    if (release !== null) {
      file.release = release;
      this.remoteFiles?.expect(resource);
    }
    lockspace.resources.set(name, resource);
    for (const hold of holds) {
      this.indexHold(resource, hold, holdCost(lockspace.directory, name, hold.owner.name));
      if (hold.unanswered === true) this.unanswered++;
      if (hold.owner.id === 0) this.hasUnregistered = true;
    }
  }

  /** Grants an acquire that the owner repeats: its hold replaces the {@link Hold.unanswered} one. False when there is none, or no lock. */
  private grantAgain(resource: Resource, mode: LockMode, hold: Hold): boolean {
    const { holds, lockspace, name } = resource;
    const index = holds.findIndex(({ unanswered, end, owner }) => {
      return unanswered === true && end === undefined && isSameRegistration(owner, hold.owner);
    });
    const before = holds[index];
    // Another process or host may have a lock that is lost.
    if (before === undefined || resource.mode !== mode || !resource.file.locked) return false;
    resource.replaceHold(index, hold);
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
      throw error instanceof LimitError ? this.reportRefusal(lockspace, name, mode, hold, { error }) : error;
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
  private forgetHold(resource: Resource, { owner, client, unanswered }: Hold, isLast: boolean): void {
    if (unanswered === true) this.unanswered--;
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

  /** @throws RpcError; Waiting, when the owner is being ended: that releases its holds, or until the file is released */
  release(lockspace: Lockspace, name: ByteString, pid: number, remote: RemoteCalls | null = null): void {
    if (remote?.hasAwaited === true) return;
    const begun = lockspace.resources.get(name)?.release ?? null;
    // Before the path's turn, which may be that of a call which waits for this very release.
    if (begun?.isRestored === true && begun.by === pid) remote?.awaitEnding(begun);
    if (remote?.mayNeed === true) remote.awaitTurn(joinPath(lockspace.directory, name));
    const resource = lockspace.resources.get(name);
    const place = resource?.liveHoldOf(pid) ?? -1;
    if (resource !== undefined && place >= 0) {
      const { holdCount, mode, file } = resource;
      // Before anything is changed: a call that waits is made again, by the next program too.
      if (mode.autocreate && holdCount === 1 && file.remote === null) remote?.awaitThaw(lockspace.directory, name, pid);
      this.dropped(resource, resource.removeHold(pid, place), pid);
      if (resource.release !== null) remote?.awaitEnding(resource.release);
      return;
    }
    if (resource !== undefined && begun === null) this.awaitEnds([resource]);
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

  private dropHolds(resource: Resource, goes: (hold: Hold) => boolean): void {
    const gone = resource.removeHolds(goes);
    if (gone.removed.length > 0) this.dropped(resource, gone);
  }

  /** @param by the owner whose call it is; 0: none */
  private dropped(resource: Resource, { removed, indexes }: RemovedHolds, by = 0): void {
    let last = -1;
    for (const hold of removed) {
      const { pid } = hold.owner;
      this.forgetHold(resource, hold, pid !== last && !resource.isHeldBy(pid));
      last = pid;
    }
    this.changed?.add(resource);
    if (resource.holdCount === 0) {
      this.recorder.resourceReleasing(resource);
      if (this.remoteFiles?.release(resource, by) !== true) {
        resource.lockspace.resources.delete(resource.name);
        resource.releaseFile(this.keeper);
        this.recorder.resourceReleased(resource);
      }
    } else {
      this.recorder.holdsDropped(resource, indexes);
      this.remoteFiles?.notes.changed(resource);
    }
    for (const hold of removed) this.observer?.released(resource, hold);
  }

  /** The lock of a resource was lost, or is taken again. @param isNew it was held before */
  noteLoss(resource: Resource, isNew: boolean): void {
    this.changed?.add(resource);
    this.recorder.lockChanged(resource);
    this.observer?.lockChanged(resource, isNew);
  }

  /** The file of a resource that nobody holds is released. */
  finishRelease(resource: Resource): void {
    const { lockspace, name, file, release } = resource;
    if (lockspace.resources.get(name) === resource) lockspace.resources.delete(name);
    this.changed?.add(resource);
    this.recorder.resourceReleased(resource);
    file.release = null;
    release?.wake();
  }

  /** Whether a call for the path may hang. */
  mayHang(path: ByteString): boolean {
    return this.remoteFiles?.mayHang(path) === true;
  }

  private assertFree({ resources }: Lockspace, name: ByteString): void {
    const resource = resources.get(name);
    if (resource === undefined) return;
    this.awaitEnds([resource]);
    throw busy(name);
  }

  /** Has the caller wait if the resources are being released, or held by owners only that have ended. @throws Waiting */
  private awaitEnds(resources: readonly Resource[]): void {
    let last: Ending | null = null;
    for (const { holds, release } of resources) {
      if (release !== null) last = release;
      for (const hold of holds) {
        const { end } = hold;
        // The holds of an owner that is gone are released within the next slices: C would have released them by now.
        const isAwaited = end?.isAwaited === true || end?.isGone === true;
        const ending = end === undefined ? this.unseenEndOf(hold) : isAwaited ? end : null;
        if (ending === null) return;
        last = ending;
      }
    }
    const awaited = last;
    // Of very many that end together the last one ends behind most others.
    if (awaited !== null) throw new Waiting((done) => awaited.wait(done));
  }

  /** Reports a refused acquire to the observer, and returns the error. */
  reportRefusal(
    { directory }: Pick<Lockspace, 'directory'>,
    name: ByteString,
    mode: LockMode,
    hold: Hold,
    { error, heldBy, pid = 0, look = null }: Reason,
  ): RpcError {
    const path = heldBy?.path ?? joinPath(directory, name);
    this.observer?.refused({ lockspace: directory, name, path, mode, heldBy, pid, look, error, hold });
    this.recorder.acquireRefused();
    return error;
  }

  /** The error for a file that could not be locked, and the resource that is in the way. @throws Waiting */
  private toError({ directory }: Lockspace, name: ByteString, { autocreate }: LockMode, failure: LockFailure): Reason {
    switch (failure.kind) {
      case 'own':
        return { error: ownFile(name, failure.file) };
      case 'busy': {
        const inTheWay = failure.file === undefined ? [] : this.resourcesOf([failure.file]);
        this.awaitEnds(inTheWay);
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

  /** The resources that hold the files, by whatever names. A search of all resources, for refusals and losses only. */
  resourcesOf(files: readonly HeldFile[]): Resource[] {
    const found: Resource[] = [];
    for (const resource of this.resources()) if (files.includes(resource.file)) found.push(resource);
    return found;
  }
}

/** Has the caller wait while a storage helper releases the file. @throws Waiting */
function awaitRelease({ release }: Resource): void {
  if (release !== null) throw new Waiting((done) => release.wait(done));
}

/** Null when nobody else is in the way. */
function lookAt(
  failure: LockFailure,
  { directory }: Lockspace,
  name: ByteString,
  remote: RemoteCalls | null,
  place: Place,
): LookElsewhere | null {
  if (failure.kind !== 'busy' || failure.file !== undefined || remote === null) return null;
  return remote.lookElsewhere(place, directory, name, { pid: failure.pid, at: failure.at ?? null });
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
