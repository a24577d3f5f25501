/**
 * Changes the kind of every held lock. POSIX locks become OFD locks when a keeper keeps files beyond the daemon's life, for example those
 * adopted from a C daemon. All become POSIX locks before a program takes over that knows no other kind. An OFD lock would keep that
 * program out: it would report the lock as lost, and kill the guest. They also become POSIX locks when it turns out that nobody keeps
 * them.
 *
 * A change may degrade an exclusive lock: see posix/record-lock.ts. LockKinds retries until the other process's shared lock is gone.
 */
import { changeKind, type HeldFile, mendLock } from '../lockspace/files.ts';
import type { Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import { logger } from '../log/log.ts';
import { lastStat, posix, strerror } from '../posix/posix.ts';
import type { LockKind } from '../posix/record-lock.ts';
import { inSlices } from '../rpc/slices.ts';

const log = logger('locking.lock_daemon');

/** Until degraded locks are retried, in milliseconds: doubled every time, up to the second. */
const AGAIN_MS = 1000;
const MAX_AGAIN_MS = 60_000;

type SetTimeout = (callback: () => void, milliseconds: number) => unknown;

const realTimeout: SetTimeout = (callback, milliseconds) => setTimeout(callback, milliseconds).unref();

export class LockKinds {
  private readonly lockspaces: Lockspaces;
  private readonly setTimeout: SetTimeout;
  /** Files with degraded locks, each with a resource that holds it. */
  private readonly degraded = new Map<HeldFile, Resource>();
  private delay = AGAIN_MS;
  private isWaiting = false;

  constructor(lockspaces: Lockspaces, setTimeout = realTimeout) {
    this.lockspaces = lockspaces;
    this.setTimeout = setTimeout;
  }

  /** Gives an OFD lock to every held file that the keeper keeps, while clients are served. Call it whenever the keeper begins to. */
  async turnToOfd(): Promise<void> {
    const { keeper } = this.lockspaces;
    await inSlices(this.lockspaces.resources(), (resource) => {
      const { file } = resource;
      if (file.degraded) this.noteDegraded(resource);
      if (this.lockspaces.takesPosixOnly || !keeper.isKeeping || !isLocked(file) || file.lockKind === 'ofd') return;
      if (posix.fstatInode(file.fd) === 0 && keeper.keeps(file.fd, lastStat())) this.change(resource, 'ofd');
    });
    this.awaitMending();
  }

  /**
   * Gives a whole POSIX lock to every held file that has an OFD lock, while clients are served, and to all new ones until
   * {@link turnBack}. Returns a reason if one of them has none.
   */
  async turnToPosix(): Promise<string | undefined> {
    this.lockspaces.takesPosixOnly = true;
    let refusal: string | undefined;
    await inSlices(this.lockspaces.resources(), (resource) => {
      refusal ??= this.makePosix(resource);
    });
    return refusal;
  }

  /** Gives a POSIX lock to every held file that has an OFD lock, while clients are served: the keeper keeps none any more. */
  async leaveOfd(): Promise<void> {
    await inSlices(this.lockspaces.resources(), (resource) => {
      this.makePosix(resource);
    });
    this.awaitMending();
  }

  /** Undoes {@link turnToPosix}, because the other program did not take over. */
  async turnBack(): Promise<void> {
    this.lockspaces.takesPosixOnly = false;
    await this.turnToOfd();
  }

  /** Returns why the file has no whole POSIX lock. */
  private makePosix(resource: Resource): string | undefined {
    const { file, name } = resource;
    if (!isLocked(file)) return undefined;
    const errno = file.lockKind === 'ofd' ? this.change(resource, 'posix') : 0;
    if (errno !== 0) return `the lock of resource '${name}' cannot be made a POSIX one: ${strerror(errno)}`;
    if (!file.degraded || this.mend(resource)) return undefined;
    return `the lock of resource '${name}' should be exclusive, and another process shares it`;
  }

  /** @returns 0, or the errno (positive) for which the lock is still of its old kind */
  private change(resource: Resource, to: LockKind): number {
    const { file, name } = resource;
    const errno = changeKind(file, to);
    if (errno !== 0) log.warn(`Cannot change the kind of the lock of resource '${name}': ${strerror(errno)}`);
    else this.lockspaces.keeper.kindChanged(file);
    if (file.degraded) this.noteDegraded(resource);
    else this.degraded.delete(file);
    return errno;
  }

  private noteDegraded(resource: Resource): void {
    const { file, name } = resource;
    if (!this.degraded.has(file)) {
      log.error(
        `The lock of resource '${name}' is only a shared one, because another process shares it: will try again until that process releases it`,
      );
    }
    this.degraded.set(file, resource);
  }

  private awaitMending(): void {
    if (this.degraded.size === 0 || this.isWaiting) return;
    this.isWaiting = true;
    this.setTimeout(() => {
      this.isWaiting = false;
      for (const resource of this.degraded.values()) this.mend(resource);
      this.delay = this.degraded.size === 0 ? AGAIN_MS : Math.min(this.delay * 2, MAX_AGAIN_MS);
      this.awaitMending();
    }, this.delay);
  }

  /** Whether the lock is exclusive again, or gone. */
  private mend({ file, name }: Resource): boolean {
    if (isLocked(file) && file.degraded) {
      if (mendLock(file) < 0) return false;
      log.warn(`The lock of resource '${name}' is exclusive again`);
    }
    this.degraded.delete(file);
    return true;
  }
}

/** Whether there is a lock to change: it may have been released or lost. */
function isLocked({ references, locked, fd }: HeldFile): boolean {
  return references > 0 && locked && fd >= 0;
}
