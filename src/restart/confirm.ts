/**
 * Whether the locks that were taken over are still there. From Linux 5.11 on exec keeps every lock whose descriptors stay open, so
 * they are: nothing is asked before clients are served. What follows in slices behind the first requests is the proof.
 *
 * - A lock that the kernel has on record for a descriptor (`lock:` in /proc/self/fdinfo) is there.
 * - One that is not on record tells nothing where another machine or process decides, and nobody is asked there: it might not
 *   answer. On a local file system it is asked for again.
 * - Only another process that has it by then is a loss. Its owners are ended.
 * - Whatever cannot be found out is unknown: the lock stays held, and is looked at again later.
 */
import os from 'node:os';
import type { Daemon } from '../daemon/daemon.ts';
import { logger } from '../log/log.ts';
import { type HeldFile, lockAgain, noteFileChange, reopen } from '../lockspace/files.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import { strerror } from '../posix/posix.ts';
import { descriptorInfo, type KernelLock } from '../proc/locks.ts';
import { isLocalType, mayKeepNoRecord, Mounts } from '../proc/mounts.ts';
import { inSlices } from './slices.ts';

const log = logger('locking.lock_daemon');

/** Until what is unknown is looked at again, in milliseconds: doubled every time, but no more than the second. */
const AGAIN_MS = 1000;
const MAX_AGAIN_MS = 600_000;

/** What was found out of a file's lock. `missing`: it is not on record where it should be. */
type Finding =
  | { readonly kind: 'held' | 'unrecorded' | 'missing' | 'taken' }
  | { readonly kind: 'lost'; readonly pid: number }
  | { readonly kind: 'unknown'; readonly reason: string };

const NOT_OPENED =
  'its descriptor is gone, and it is not opened again where another machine or process may have to answer';

type SetTimeout = (callback: () => void, milliseconds: number) => unknown;

/** Before Linux 5.11, exec from a process with several threads, as every Node.js process is, drops POSIX locks. */
export function execDropsLocks(release = os.release()): boolean {
  const [major = 0, minor = 0] = release.split('.').map(Number);
  return major < 5 || (major === 5 && minor < 11);
}

const realTimeout: SetTimeout = (callback, milliseconds) => setTimeout(callback, milliseconds).unref();

export class Confirmation {
  private readonly daemon: Daemon;
  private readonly setTimeout: SetTimeout;
  private readonly mounts = new Mounts();
  /** Exec has dropped the locks: what is not on record is asked for wherever it is. */
  private asksEverywhere = false;
  private readonly localDevices = new Set<number>();
  /** Files of which nothing is known yet, each with a resource that holds it, and why. */
  private readonly unknown = new Map<HeldFile, { readonly resource: Resource; readonly reason: string }>();
  private delay = AGAIN_MS;

  constructor(daemon: Daemon, setTimeout = realTimeout) {
    this.daemon = daemon;
    this.setTimeout = setTimeout;
  }

  /** For a kernel on which exec drops locks: looks at every one before anybody is served. */
  runAfterDrop(): void {
    this.asksEverywhere = true;
    for (const resource of oncePerFile(this.daemon.lockspaces.resources())) this.look(resource);
    this.conclude(new Set());
  }

  /** Looks at every lock while clients are served. */
  async run(): Promise<void> {
    await this.runOver(this.daemon.lockspaces.resources());
  }

  /** Whether the file, which was looked at, is on a file system that answers by itself. */
  isLocal({ device }: HeldFile): boolean {
    return this.localDevices.has(device);
  }

  private async runOver(resources: Iterable<Resource>): Promise<void> {
    const before = new Set(this.unknown.keys());
    await inSlices(oncePerFile(resources), (resource) => {
      this.look(resource);
    });
    this.conclude(before);
  }

  /** Says once what is unknown, and sees to it that it is looked at again. */
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

  private look(resource: Resource): void {
    const { file, name } = resource;
    const wasUnknown = this.unknown.delete(file);
    // Released meanwhile.
    if (file.references === 0) return;
    const finding = this.find(resource);
    switch (finding.kind) {
      case 'unknown':
        this.unknown.set(file, { resource, reason: finding.reason });
        break;
      case 'lost':
        this.lose(file, finding.pid);
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
      // It is on record for the open file by which it was taken, and each of these may be another one.
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

  /** Another process has it: whoever held it must not go on writing. */
  private lose(file: HeldFile, pid: number): void {
    const holders = [...this.daemon.lockspaces.resources()].filter((resource) => resource.file === file);
    let lost = holders;
    noteFileChange();
    file.locked = false;
    // C grants an exclusive lock beside shared ones when the names differ. The shared one may be there still.
    if (!file.shared && holders.some(isShared)) {
      file.shared = true;
      file.locked = lockAgain(file) === null;
      if (file.locked) lost = holders.filter((resource) => !isShared(resource));
    }
    const owners = new Set<number>();
    for (const { name, holds } of lost) {
      const live = holds.filter(({ end }) => end === undefined);
      for (const { owner } of live) owners.add(owner.pid);
      // Else it was said before another restart.
      if (live.length > 0) {
        log.error(`The lock of resource '${name}' was lost, and process ${pid} has it: its owners are ended`);
      }
    }
    for (const owner of owners) this.daemon.ownerReaper.end(owner);
  }
}

/** Not the message, which names the descriptor: what is the same for many is said once. */
function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

function isShared({ mode }: Resource): boolean {
  return mode.shared;
}

/** Whether what is on record for one of our descriptors, which lists no others, is the lock that we hold. */
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
