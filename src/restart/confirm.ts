/**
 * Confirms that the adopted locks are still held. From Linux 5.11 on exec keeps every lock whose descriptors stay open, so clients are
 * served first, and the check follows in slices.
 *
 * - A lock on record in the kernel for a descriptor (`lock:` in /proc/self/fdinfo) is held.
 * - A lock that is not on record is requested again on a local file system. Where another machine or process decides, the record
 *   proves nothing, and a request might hang.
 * - A lock is lost only if another process has it by then. Its owners are killed.
 * - Otherwise it is unknown: the lock stays held, and is checked again later.
 */
import type { Daemon } from '../daemon/daemon.ts';
import { logger } from '../log/log.ts';
import { type HeldFile, lockAgain, noteFileChange, reopen } from '../lockspace/files.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import { holdsOfTaken } from '../lockspace/taken.ts';
import { strerror } from '../posix/posix.ts';
import { kernelIsAtLeast } from '../proc/kernel.ts';
import { descriptorInfo, type KernelLock } from '../proc/locks.ts';
import { isLocalType, mayKeepNoRecord, Mounts } from '../proc/mounts.ts';
import { inSlices } from '../rpc/slices.ts';

const log = logger('locking.lock_daemon');

/** Until an unknown lock is checked again, in milliseconds: doubled every time, up to the maximum. */
const AGAIN_MS = 1000;
const MAX_AGAIN_MS = 600_000;

/** The result of a check. `missing`: the lock is not on record where it should be. */
type Finding =
  | { readonly kind: 'held' | 'unrecorded' | 'missing' | 'taken' }
  | { readonly kind: 'lost'; readonly pid: number }
  | { readonly kind: 'unknown'; readonly reason: string };

const NOT_OPENED =
  'its descriptor is gone, and it is not opened again where another machine or process may have to answer';

type SetTimeout = (callback: () => void, milliseconds: number) => unknown;

/** Before Linux 5.11, exec from a process with several threads, as every Node.js process is, drops POSIX locks. */
export function execDropsLocks(kernel?: string): boolean {
  return !kernelIsAtLeast(5, 11, kernel);
}

const realTimeout: SetTimeout = (callback, milliseconds) => setTimeout(callback, milliseconds).unref();

export class Confirmation {
  private readonly daemon: Daemon;
  private readonly setTimeout: SetTimeout;
  private readonly mounts = new Mounts();
  /** Exec has dropped the locks: they are requested on all file systems. */
  private asksEverywhere = false;
  private readonly localDevices = new Set<number>();
  /** Files whose lock is unknown, each with a resource that holds it, and the reason. */
  private readonly unknown = new Map<HeldFile, { readonly resource: Resource; readonly reason: string }>();
  private delay = AGAIN_MS;

  constructor(daemon: Daemon, setTimeout = realTimeout) {
    this.daemon = daemon;
    this.setTimeout = setTimeout;
  }

  /** For a kernel on which exec drops locks: checks all of them before clients are served. */
  runAfterDrop(): void {
    this.asksEverywhere = true;
    for (const resource of oncePerFile(this.daemon.lockspaces.resources())) this.checkLock(resource);
    this.conclude(new Set());
  }

  /** Checks every lock while clients are served. */
  async run(): Promise<void> {
    await this.runOver(this.daemon.lockspaces.resources());
  }

  /** Whether the file, after its check, is known to be on a local file system. */
  isLocal({ device }: HeldFile): boolean {
    return this.localDevices.has(device);
  }

  private async runOver(resources: Iterable<Resource>): Promise<void> {
    const before = new Set(this.unknown.keys());
    await inSlices(oncePerFile(resources), (resource) => {
      this.checkLock(resource);
    });
    this.conclude(before);
  }

  /** Logs newly unknown locks, and schedules the next check. */
  private conclude(before: ReadonlySet<HeldFile>): void {
    const reasons = new Map<string, { readonly first: Resource; others: number }>();
    for (const [file, { resource, reason }] of this.unknown) {
      if (before.has(file)) continue;
      const known = reasons.get(reason);
      if (known === undefined) reasons.set(reason, { first: resource, others: 0 });
      else known.others++;
    }
    for (const [reason, { first, others }] of reasons) {
      const more = others === 0 ? '' : ` and those of ${others} other files`;
      log.warn(`The lock of resource '${first.name}'${more} cannot be confirmed, and stays held: ${reason}`);
    }
    this.mounts.forget();
    if (this.unknown.size === 0) return;
    this.setTimeout(() => {
      void this.runOver([...this.unknown.values()].map(({ resource }) => resource));
    }, this.delay);
    this.delay = Math.min(this.delay * 2, MAX_AGAIN_MS);
  }

  private checkLock(resource: Resource): void {
    const { file, name } = resource;
    const wasUnknown = this.unknown.delete(file);
    // It was released during the check.
    if (file.references === 0) return;
    const finding = this.find(resource);
    switch (finding.kind) {
      case 'unknown':
        this.unknown.set(file, { resource, reason: finding.reason });
        break;
      case 'lost':
        this.lose(resource, finding.pid);
        break;
      case 'taken':
        noteFileChange();
        file.locked = true;
        log.warn(`The lock of resource '${name}' had been lost and was taken again`);
        break;
      case 'held':
        if (!file.locked) noteFileChange();
        file.locked = true;
        if (wasUnknown) log.info(`The lock of resource '${name}' is confirmed by now`);
        break;
      case 'unrecorded':
      case 'missing':
        break;
    }
  }

  private find({ file, path }: Resource): Finding {
    // Its helper lists what it has.
    if (file.remote !== null || file.engine !== null) return { kind: 'unrecorded' };
    if (file.fd >= 0) {
      const finding = this.findOnRecord(file);
      if (finding.kind !== 'missing') return finding;
    } else {
      if (!this.asksEverywhere && !isLocalType(this.mounts.typeAt(path)))
        return { kind: 'unknown', reason: NOT_OPENED };
      const status = reopen(file, path);
      if (status < 0) return { kind: 'unknown', reason: `it cannot be opened at its path, ${strerror(status)}` };
    }
    const failure = lockAgain(file);
    if (failure === null) return { kind: 'taken' };
    if (failure.kind !== 'busy') return { kind: 'unknown', reason: strerror(failure.errno) };
    if (failure.pid > 0) return { kind: 'lost', pid: failure.pid };
    return { kind: 'unknown', reason: 'somebody has it, and the kernel names no other process' };
  }

  private findOnRecord(file: HeldFile): Finding {
    let mount = -1;
    try {
      // It is on record for the open file description that took it, and each descriptor may have another one.
      for (const fd of [file.fd, ...file.deferredFds]) {
        const info = descriptorInfo('self', fd);
        if (isLocalType(this.mounts.typeOf(info.mount))) this.localDevices.add(file.device);
        if (info.locks.some((lock) => isLockOf(file, lock))) return { kind: 'held' };
        ({ mount } = info);
      }
    } catch (error) {
      if (!this.asksEverywhere) return { kind: 'unknown', reason: `/proc/self/fdinfo: ${codeOf(error)}` };
    }
    if (this.asksEverywhere || this.isLocal(file)) return { kind: 'missing' };
    const type = this.mounts.typeOf(mount);
    if (mayKeepNoRecord(type)) return { kind: 'unrecorded' };
    return { kind: 'unknown', reason: `the kernel has no record of it, on a file system of type ${type ?? 'unknown'}` };
  }

  /** Another process has the lock, so its owners must not go on writing. */
  private lose(resource: Resource, pid: number): void {
    const { file } = resource;
    const isAlone = file.references === 1;
    const all = isAlone ? [resource] : [...this.daemon.lockspaces.resources()];
    const holders = all.filter((other) => other.file === file);
    let lost = holders;
    noteFileChange();
    file.locked = false;
    // C grants an exclusive lock beside shared ones when the names differ. The shared one may still be held.
    if (!file.shared && holders.some(isShared)) {
      file.shared = true;
      file.locked = lockAgain(file) === null;
      if (file.locked) lost = holders.filter((resource) => !isShared(resource));
    }
    this.daemon.ownerReaper.end(holdsOfTaken(lost, pid));
  }
}

/** Without the message, which names the descriptor: equal reasons are logged once. */
function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

function isShared({ mode }: Resource): boolean {
  return mode.shared;
}

/** Whether a lock on record for one of our descriptors is the one that we hold. */
function isLockOf({ lockKind, isReadLocked }: HeldFile, { kind, access, start, end }: KernelLock): boolean {
  return (
    kind === (lockKind === 'ofd' ? 'OFDLCK' : 'POSIX') &&
    access === (isReadLocked ? 'READ' : 'WRITE') &&
    start === 0n &&
    end === 0n
  );
}

function* oncePerFile(resources: Iterable<Resource>): Generator<Resource> {
  const seen = new Set<HeldFile>();
  for (const resource of resources) {
    if (seen.has(resource.file)) continue;
    seen.add(resource.file);
    yield resource;
  }
}
