/** Held files that storage helpers keep: their release, and what becomes of them when the daemon or a helper is another one. */
import type { ByteString } from '../../xdr/codec.ts';
import { logger } from '../log/log.ts';
import { now } from '../posix/clock.ts';
import { posix, type Stat, strerror } from '../posix/posix.ts';
import type { Helper } from '../storage/helper.ts';
import { type Answer, AnswerFlag, Operation, RequestFlag } from '../storage/messages.ts';
import { openDescriptors } from '../proc/descriptors.ts';
import { descriptorTest } from '../proc/open-files.ts';
import { isStorageHelper } from '../proc/processes.ts';
import { absolutePath, placeOfNode } from '../proc/route.ts';
import { trialOf } from '../storage/thaw.ts';
import type { StorageObserver, Storages } from '../storage/storages.ts';
import { inSlices } from '../rpc/slices.ts';
import { changeKind, type HeldFile, joinPath, noteFileChange, type RemoteFile, unregister } from './files.ts';
import { HolderNotes } from './holder-notes.ts';
import type { Lockspaces, Resource } from './lockspaces.ts';
import { type Hold, nameOwners } from './owner.ts';
import { Release } from './release.ts';
import { holdsOfTaken } from './taken.ts';

const log = logger('util.lockspace');

/** Until a lock that was lost with its helper is asked for again, in milliseconds: doubled every time, up to the second. */
const AGAIN_MS = 1000;
const MAX_AGAIN_MS = 60_000;
/** How long local files are released after a trial of their file system, in milliseconds. */
const PART_MS = 2;

/** Has a helper give up a file of which the daemon makes no use. */
export function sendRelease(helper: Helper, file: number): void {
  helper.call({ operation: Operation.RELEASE, file }, 0, () => undefined, { isUrgent: true });
}

/** The daemon, as far as files of helpers need it. It has the sockets of helpers outlive the process. */
export interface RemoteFilesHost extends Pick<StorageObserver, 'changed' | 'closing'> {
  /** Kills the processes of the owners of these holds: another one has their lock. */
  endOwners(holds: readonly Hold[]): void;
}

export class RemoteFiles implements StorageObserver {
  private readonly storages: Storages;
  private readonly lockspaces: Lockspaces;
  private readonly host: RemoteFilesHost;
  private readonly releasing = new Set<Resource>();
  /** Those of them that wait for their helper's list of files. */
  private readonly expected = new Set<Resource>();
  /** Local files to be released, by file system: they wait until a helper has tried that. */
  private readonly local = new Map<string, Set<Resource>>();
  private readonly missing = new Set<Resource>();
  private idle: (() => void)[] = [];
  /** Files that {@link takeAll} has taken, as their helpers still have them open: the same open files, whose locks are POSIX locks. */
  private readonly taken = new Map<HeldFile, RemoteFile>();
  private isTaking = false;
  readonly notes: HolderNotes;

  constructor(storages: Storages, lockspaces: Lockspaces, host: RemoteFilesHost) {
    this.storages = storages;
    this.lockspaces = lockspaces;
    this.host = host;
    this.notes = new HolderNotes(storages);
    storages.observer = this;
  }

  mayHang(path: ByteString): boolean {
    return this.storages.placeOf(path) !== null;
  }

  changed(): void {
    this.host.changed();
  }

  keeps({ id }: Helper): boolean {
    return this.filesOf(id).length > 0;
  }

  closing(socket: number): void {
    this.host.closing(socket);
  }

  /** Begins to release a resource that nobody holds. False when it can be done at once, or another resource holds its file too. */
  release(resource: Resource, by: number): boolean {
    const { file } = resource;
    if (file.references > 1) return false;
    this.forgetTaken(file);
    // A call has waited before.
    if (file.remote === null && (by !== 0 || !this.mustTry(resource))) return false;
    file.release = new Release(by);
    this.send(resource);
    return true;
  }

  /** Whether the unlink of a local file must wait until a helper has tried its file system. */
  private mustTry({ file, mode, lockspace, name, path }: Resource): boolean {
    const { thaws } = this.storages;
    if (!mode.autocreate || !file.locked || thaws.isTrusted(lockspace.directory, name)) return false;
    if (thaws.trierFor(path) !== null) return true;
    thaws.tried(lockspace.directory, name, null);
    return false;
  }

  /** Goes on with a release of the previous program or process, once its helper has listed its files. */
  expect(resource: Resource): void {
    this.releasing.add(resource);
    this.expected.add(resource);
  }

  private send(resource: Resource): void {
    const { file, path, mode, lockspace, name } = resource;
    this.releasing.add(resource);
    this.expected.delete(resource);
    if (file.remote === null) {
      this.sendLocal(resource);
      return;
    }
    const helper = this.storages.byId(file.remote.helper);
    if (helper === undefined || (!file.locked && file.loss === null)) {
      // It went with its helper.
      setImmediate(() => {
        this.finish(resource);
      });
      return;
    }
    // Where the lock is lost, the file may be another host's by now.
    const flags = mode.autocreate && file.locked ? RequestFlag.UNLINK : 0;
    const request = { operation: Operation.RELEASE, flags, file: file.remote.file, path: absolutePath(path) };
    helper.call(request, 0, (answer) => {
      if (answer !== null && answer.status < 0) {
        log.warn(`Unable to unlink resource ${joinPath(lockspace.directory, name)}: ${strerror(answer.status)}`);
      }
      this.finish(resource);
    });
  }

  private sendLocal(resource: Resource): void {
    const key = this.storages.thaws.trierFor(resource.path)?.place.key ?? '';
    const queue = this.local.get(key);
    if (queue !== undefined) {
      queue.add(resource);
      return;
    }
    const begun = new Set([resource]);
    this.local.set(key, begun);
    this.tryNext(key, begun);
  }

  /** Has the file system tried before a part of the releases there: it may be frozen at any time. */
  private tryNext(key: string, queue: Set<Resource>): void {
    const [first] = queue;
    if (first === undefined) {
      this.local.delete(key);
      return;
    }
    const { thaws } = this.storages;
    const helper = thaws.trierFor(first.path);
    const goOn = (): void => {
      thaws.tried(first.lockspace.directory, first.name, helper);
      const until = now() + PART_MS;
      for (const resource of queue) {
        queue.delete(resource);
        this.finish(resource);
        if (now() >= until) break;
      }
      this.tryNext(key, queue);
    };
    // Never at once: the caller has not finished yet.
    if (helper === null) setImmediate(goOn);
    else if (helper.isUp) helper.call(trialOf(first.path), 0, goOn);
    else
      helper.awaitStart(() => {
        this.tryNext(key, queue);
      });
  }

  private finish(resource: Resource): void {
    this.expected.delete(resource);
    this.missing.delete(resource);
    // It may go with its helper while that is found missing.
    if (!this.releasing.delete(resource)) return;
    if (resource.file.remote === null) resource.releaseFile(this.lockspaces.keeper);
    else unregister(resource.file);
    this.lockspaces.finishRelease(resource);
    if (this.releasing.size === 0) for (const done of this.idle.splice(0)) done();
  }

  /** The former process died while it released one of several names: the helper keeps the file for the others. */
  private forget(resource: Resource): void {
    resource.file.references--;
    this.releasing.delete(resource);
    this.lockspaces.finishRelease(resource);
  }

  /** Held resources whose locks have gone with their helpers, and are asked for again. */
  get lost(): readonly Resource[] {
    return [...this.missing];
  }

  /** Resources that are being released. */
  get unreleased(): readonly Resource[] {
    return [...this.releasing];
  }

  /** Resolves when all releases are done, or the time is over. */
  async released(milliseconds: number): Promise<void> {
    if (this.releasing.size === 0) return;
    await new Promise<void>((resolve) => {
      this.idle.push(resolve);
      setTimeout(resolve, milliseconds);
    });
  }

  /** Has the helpers of the former program or process list their files, now that all waiting calls are known. */
  attach(): void {
    for (const resource of this.releasing) if (resource.file.references > 1) this.forget(resource);
    const ids = new Set<number>();
    for (const { file } of this.lockspaces.resources()) if (file.remote !== null) ids.add(file.remote.helper);
    for (const id of ids) {
      if (this.storages.byId(id) !== undefined) continue;
      // It has ended before, or its socket did not outlive the former process.
      const former = this.storages.endedProcessOf(id);
      for (const resource of this.filesOf(id)) {
        if (resource.release === null) this.lose(resource, this.helperAt(resource), former);
        else this.finish(resource);
      }
    }
    for (const resource of [...this.expected]) if (resource.file.remote === null) this.send(resource);
    this.storages.attach();
  }

  /** Compares the files of a helper of the former program or process with the resources. */
  listed(helper: Helper, files: readonly Answer[]): void {
    const left = new Map(files.map((answer) => [answer.file, answer]));
    for (const resource of this.filesOf(helper.id)) {
      const { file, release } = resource;
      const isThere = left.delete(file.remote?.file ?? 0);
      // One that this program has begun waits in the helper's queue.
      if (release?.isRestored === false) continue;
      if (release !== null && isThere) this.send(resource);
      else if (release !== null) this.finish(resource);
      else if (!isThere) this.lose(resource, helper, 0);
    }
    // Of acquires that were not answered.
    for (const file of left.keys()) sendRelease(helper, file);
  }

  died(helper: Helper, next: Helper | null): void {
    for (const resource of this.filesOf(helper.id)) {
      if (resource.release === null) this.lose(resource, next, helper.pid);
      // Otherwise the release's own call finishes it.
      else if (this.expected.has(resource)) this.finish(resource);
    }
  }

  /**
   * Takes all files from the helpers, with POSIX locks, for a program that knows no helpers. From then on they are in this process's
   * table. Asks the file systems first whether they answer.
   *
   * @param milliseconds how long that may take
   * @returns why it could not be done
   */
  async takeAll(milliseconds: number): Promise<string | undefined> {
    const until = now() + milliseconds;
    await this.released(milliseconds);
    const helpers = new Map<number, Resource[]>();
    for (const { file } of this.lockspaces.resources()) {
      if (file.remote !== null && !helpers.has(file.remote.helper)) helpers.set(file.remote.helper, []);
    }
    for (const id of helpers.keys()) helpers.set(id, this.filesOf(id));
    this.isTaking = true;
    try {
      return await this.takeFrom(helpers, until);
    } finally {
      this.isTaking = false;
    }
  }

  private async takeFrom(helpers: ReadonlyMap<number, Resource[]>, until: number): Promise<string | undefined> {
    const steps = [
      async (helper: Helper, [one]: readonly Resource[]): Promise<string[]> =>
        one === undefined ? [] : answerOf(helper, one.file.remote?.file ?? 0, one.path),
      async (helper: Helper, resources: readonly Resource[]): Promise<string[]> =>
        Promise.all(resources.map(async (one) => this.take(helper, one))),
    ];
    for (const step of steps) {
      for (const [id, resources] of helpers) {
        const helper = this.storages.byId(id);
        if (helper === undefined) return 'a storage helper has ended, and the locks that it had are asked for again';
        const refusals = await within(step(helper, resources), until - now());
        if (refusals === undefined) return `the file system at ${helper.place.name} does not answer`;
        const refusal = refusals.find((one) => one !== '');
        if (refusal !== undefined) return refusal;
      }
    }
    return undefined;
  }

  /** Whether files are taken that {@link giveBack} would give back. */
  get hasTaken(): boolean {
    return this.taken.size > 0;
  }

  /**
   * Undoes {@link takeAll}, because the other program did not take over. Files on storage that does not answer by now stay.
   *
   * @param milliseconds how long each file system may take to answer
   */
  async giveBack(milliseconds: number): Promise<void> {
    const helpers = new Map<number, [Resource, ...Resource[]]>();
    for (const resource of this.lockspaces.resources()) {
      const remote = this.taken.get(resource.file);
      if (remote === undefined) continue;
      const others = helpers.get(remote.helper);
      if (others === undefined) helpers.set(remote.helper, [resource]);
      else others.push(resource);
    }
    const giveBackTo = async (id: number, resources: readonly [Resource, ...Resource[]]): Promise<void> => {
      const [first] = resources;
      const number = this.taken.get(first.file)?.file ?? 0;
      const helper = this.storages.byId(id);
      if (helper !== undefined && (await within(answerOf(helper, number, first.path), milliseconds)) === undefined)
        return;
      await inSlices(resources, (resource) => {
        this.giveBackOne(resource);
      });
    };
    // None of them waits for another's file system.
    await Promise.all([...helpers].map(async ([id, resources]) => giveBackTo(id, resources)));
  }

  /** Changes its lock alone: the helper has the same open file. */
  private giveBackOne({ file, name }: Resource): void {
    const remote = this.taken.get(file);
    if (remote === undefined) return;
    if (!isWhole(file) || this.storages.byId(remote.helper) === undefined) {
      this.forgetTaken(file);
      return;
    }
    const errno = file.lockKind === 'posix' ? changeKind(file, 'ofd') : 0;
    if (errno !== 0 || !isWhole(file)) {
      // An exclusive lock that another process shares by now: the daemon asks for it again, and a helper does not.
      if (file.lockKind === 'ofd') changeKind(file, 'posix');
      log.warn(
        `The lock of resource '${name}' stays the daemon's own: ${errno === 0 ? 'it is shared' : strerror(errno)}`,
      );
      this.forgetTaken(file);
      return;
    }
    posix.close(file.fd);
    file.fd = -1;
    file.remote = remote;
    this.taken.delete(file);
    this.noteChange(file);
  }

  /** The daemon has the file for good, or releases it. */
  private forgetTaken(file: HeldFile): void {
    const remote = this.taken.get(file);
    if (remote === undefined) return;
    this.taken.delete(file);
    const request = { operation: Operation.FORGET, file: remote.file };
    this.storages.byId(remote.helper)?.call(request, 0, () => undefined, { isUrgent: true });
  }

  /** Returns why it could not be taken; empty when it was, or is not held any more. */
  private async take(helper: Helper, resource: Resource): Promise<string> {
    const { file, name } = resource;
    const { remote } = file;
    if (remote === null) return '';
    return new Promise((resolve) => {
      helper.call({ operation: Operation.HAND_OVER, file: remote.file }, 0, (answer) => {
        const fd = answer !== null && answer.status >= 0 ? answer.fd : -1;
        // It may come when the time is over.
        if (fd < 0 || !this.isTaking || resource.release !== null || file.references === 0) {
          if (fd >= 0) posix.close(fd);
          resolve(
            file.references === 0 ? '' : `the file of resource '${name}' cannot be taken from its storage helper`,
          );
          return;
        }
        file.fd = fd;
        file.remote = null;
        // The helper keeps its own descriptor, until the file is given back or its socket ends.
        this.taken.set(file, remote);
        const errno = changeKind(file, 'posix');
        this.lockspaces.keeper.kindChanged(file);
        resolve(errno === 0 ? '' : `the lock of resource '${name}' cannot be made a POSIX one: ${strerror(errno)}`);
      });
    });
  }

  /** Why a program that knows no helpers would wait for a local file system: one that is being tried is frozen. */
  async findFrozen(milliseconds: number): Promise<string | undefined> {
    const until = now() + milliseconds;
    for (const { helper, path } of this.storages.trials) {
      const tried = new Promise<boolean>((resolve) => {
        helper.call(trialOf(path), 0, () => {
          resolve(true);
        });
      });
      if ((await within(tried, until - now())) === undefined) {
        return `the file system at ${helper.place.name} does not answer`;
      }
    }
    return undefined;
  }

  /** Every resource whose file the helper keeps, each file once. */
  private filesOf(id: number): Resource[] {
    const seen = new Set<HeldFile>();
    const found: Resource[] = [];
    for (const resource of this.lockspaces.resources()) {
      const { file } = resource;
      if (file.remote?.helper !== id || seen.has(file)) continue;
      seen.add(file);
      found.push(resource);
    }
    return found;
  }

  /**
   * The kernel has dropped the lock. The resource stays held, and the lock is asked for again.
   *
   * @param former the process of the helper that had it and has ended; 0: unknown. Then nobody is ended for it: storage may go on naming
   *   that process, and its number may be any other's by now
   */
  private lose(resource: Resource, helper: Helper | null, former: number): void {
    const { file } = resource;
    this.missing.add(resource);
    log.error(`The ${lossText(resource)}`);
    file.locked = false;
    this.noteChange(file);
    this.takeAgain(resource, helper, former, AGAIN_MS);
  }

  private takeAgain(resource: Resource, helper: Helper | null, former: number, delay: number): void {
    const { file, name, path } = resource;
    const later = (): void => {
      setTimeout(() => {
        if (file.references > 0 && !file.locked)
          this.takeAgain(resource, this.helperAt(resource), former, Math.min(delay * 2, MAX_AGAIN_MS));
      }, delay).unref();
    };
    if (helper === null) {
      later();
      return;
    }
    const flags = file.shared ? RequestFlag.SHARED : 0;
    helper.call({ operation: Operation.ACQUIRE, flags, path: absolutePath(path) }, 0, (answer, by) => {
      if (answer?.status !== 0 || answer.stat === null) {
        if (answer !== null) {
          log.error(`The lock of resource '${name}' is not to be had again yet: ${reasonIn(answer)}`);
          if (former !== 0) void this.endIfTaken(resource, answer);
        }
        later();
        return;
      }
      const isSame = answer.stat.device === file.device && answer.stat.inode === file.inode;
      if (!isSame || file.references === 0 || file.release !== null) {
        sendRelease(by, answer.file);
        if (!isSame) log.error(`The lock of resource '${name}' stays lost: its path names another file now`);
        return;
      }
      file.remote = { helper: by.id, file: answer.file };
      file.locked = true;
      if (file.loss?.regained === 0) file.loss = { ...file.loss, regained: Date.now() };
      this.missing.delete(resource);
      log.warn(`The lock of resource '${name}' was taken again`);
      this.notes.changed(resource);
      this.noteChange(file);
      // The helper knows nothing of what the file system answered before.
      this.lockspaces.lockWatch?.granted(resource);
    });
  }

  /** Ends the owners if it is proven that another process has the lock. In any doubt nobody is ended, and the lock is asked for again. */
  private async endIfTaken({ file }: Resource, answer: Answer): Promise<void> {
    const { rival } = answer;
    if (!this.namesRival(file, answer) || !(await hasOpen(rival, file))) return;
    if (file.locked || file.references === 0) return;
    const holders = this.lockspaces.resourcesOf([file]);
    // It was exclusive beside shared ones, as C grants it under several names. The sharers may get a shared one: that is asked for next.
    const lost = file.shared ? holders : holders.filter(({ mode }) => !mode.shared);
    if (lost.length < holders.length) file.shared = true;
    this.host.endOwners(holdsOfTaken(lost, rival));
  }

  /**
   * Whether the answer names a process that has the lock of that very file. None is: a helper, of which one that was killed may have its
   * lock until its storage answers; this process; an owner itself.
   */
  private namesRival(file: HeldFile, { flags, stat, rival }: Answer): boolean {
    if ((flags & AnswerFlag.BUSY) === 0 || stat?.device !== file.device || stat.inode !== file.inode) return false;
    return rival > 0 && !isHoldersOwn(rival, file, this.storages, this.lockspaces);
  }

  /** The next program and the next process are to know. */
  private noteChange(file: HeldFile): void {
    noteFileChange();
    this.lockspaces.keeper.kindChanged(file);
  }

  private helperAt({ path, file }: Resource): Helper | null {
    const place = this.storages.placeOf(path) ?? (file.blockDevice === 0 ? null : placeOfNode(file));
    try {
      return place === null ? null : this.storages.helperFor(place);
    } catch {
      return null;
    }
  }
}

/** What has become of the lock of a resource, and for whom. */
export function lossText({ name, holds }: Resource): string {
  return `lock of resource '${name}' is lost with its storage helper, owners ${nameOwners(holds)}: it is asked for again`;
}

/** Whether a process that has the lock of a held file is this one, a helper, or an owner itself: none of them has taken it away. */
export function isHoldersOwn(
  pid: number,
  file: HeldFile,
  storages: Pick<Storages, 'wasHelper'>,
  lockspaces: Lockspaces,
): boolean {
  if (pid === process.pid || storages.wasHelper(pid) || isStorageHelper(pid)) return true;
  return lockspaces.resourcesOf([file]).some((resource) => resource.isHeldBy(pid));
}

/**
 * Whether a process has the file open, by /proc alone: a file system may name one that only its server knows, of another host or its own.
 * Without an answer it has not.
 */
export async function hasOpen(pid: number, { device, inode }: Pick<Stat, 'device' | 'inode'>): Promise<boolean> {
  let isOpen = false;
  try {
    const isOnFile = descriptorTest(pid, { device, inode: BigInt(inode) });
    await inSlices(openDescriptors(pid), (fd) => {
      isOpen ||= isOnFile(fd);
    });
  } catch {
    return false;
  }
  return isOpen;
}

/** Resolves when the file system answers for one of its files. */
async function answerOf(helper: Helper, file: number, path: ByteString): Promise<string[]> {
  return new Promise((resolve) => {
    helper.call({ operation: Operation.CONFIRM, file, path: absolutePath(path) }, 0, () => {
      resolve([]);
    });
  });
}

/** Whether it has its lock, of its full mode. */
function isWhole({ locked, degraded }: HeldFile): boolean {
  return locked && !degraded;
}

/** Undefined when the time is over. */
async function within<T>(result: Promise<T>, milliseconds: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, Math.max(milliseconds, 0), undefined);
  });
  const first = await Promise.race([result, limit]);
  clearTimeout(timer);
  return first;
}

function reasonIn({ status, flags, rival }: Answer): string {
  if ((flags & AnswerFlag.BUSY) === 0) return strerror(status);
  return rival > 0 ? `process ${rival} has it` : 'another process or host has it';
}
