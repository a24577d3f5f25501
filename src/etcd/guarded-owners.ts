/**
 * Owners of locks in etcd, as the guard has them: each by a pidfd, from before its first lock counts until it has none any more. Nobody else is
 * in the guard, which kills all that it has at the lease's end.
 */
import { constants } from 'node:os';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { RpcError } from '../libvirt/errors.ts';
import type { Hold, OwnerIdentity } from '../lockspace/owner.ts';
import { strerror } from '../posix/posix.ts';
import { Waiting } from '../rpc/waiting.ts';
import type { LeaseClock } from './lease.ts';

const { EPERM, ETIMEDOUT } = constants.errno;

/** How long an owner stays in the guard that is about to share a lock, in milliseconds. */
const KEEP_OWNER_MS = 500;

/** A process that is known for certain. */
export interface OwnerProcess {
  readonly pidfd: number;
  /** In clock ticks since boot. */
  readonly startTime: number;
}

/** The guard, as far as it is needed here: see guard.ts. */
export interface OwnerGuard {
  readonly isReady: boolean;
  add(token: number, pidfd: number, done: (status: number) => void): void;
  remove(token: number): void;
  arm(killAt: number, goneBy: number): void;
  keep(tokens: ReadonlySet<number>): void;
}

/** The processes of owners. */
export interface ProcessHost {
  /** The process of a hold's owner, with a pidfd of the caller's; null when it cannot be told, or is gone. */
  readonly processOf: (hold: Hold) => OwnerProcess | null;
  readonly closePidfd: (pidfd: number) => void;
  readonly isAlive: (pidfd: number) => boolean;
}

export interface OwnersHost extends ProcessHost {
  readonly clock: LeaseClock;
  /** Whether the process with this pid holds a lock in etcd. */
  holdsAny(pid: number): boolean;
  /** The guard has not taken it. */
  refused(pid: number, status: number): void;
}

export interface GuardedOwner extends OwnerProcess {
  readonly pid: number;
  /** Null: the guard has it. Otherwise calls that wait until a guard does: a new owner's, and all while a guard that has died is replaced. */
  waiting: ((status: number) => void)[] | null;
  /** Calls that have got it a lock, and no hold yet. */
  calls: number;
  /** Until then it stays in the guard without a hold: a call for one on a lock that others share is about to be made again. */
  keptUntil: number;
}

export class GuardedOwners {
  private readonly host: OwnersHost;
  private guard: OwnerGuard | null = null;
  /** By token. */
  private readonly owners = new Map<number, GuardedOwner>();
  /** By token, why the guard has not taken an owner, for the call that waits to be made again. */
  private readonly unguarded = new Map<number, number>();
  private isSyncDue = false;

  constructor(host: OwnersHost) {
    this.host = host;
  }

  /** They are given to this guard from now on. */
  start(guard: OwnerGuard): void {
    this.guard = guard;
  }

  get isReady(): boolean {
    return this.guard?.isReady === true;
  }

  /** When the guard kills them all, and when they must be gone, on {@link LeaseClock.now}. */
  arm(killAt: number, goneBy: number): void {
    this.guard?.arm(killAt, goneBy);
  }

  /** Nobody else that the guard has from before is to be killed. */
  keepOnlyThese(): void {
    this.guard?.keep(new Set(this.owners.keys()));
  }

  /**
   * Goes on when the guard has the owner, which shares a lock that is held.
   *
   * @param limit milliseconds
   * @throws Waiting until then; RpcError when it cannot be guarded
   */
  admit(hold: Hold, limit: number): void {
    const { owner } = hold;
    const found = this.take(hold);
    if (found === null) throw notGuarded(owner, CANNOT_BE_TOLD);
    const token = tokenOf(found);
    const status = this.unguarded.get(token) ?? 0;
    this.unguarded.delete(token);
    if (found.waiting === null) {
      found.keptUntil = -Infinity;
      return;
    }
    if (status !== 0) throw notGuarded(owner, whyUnguarded(status));
    throw new Waiting((done) => {
      let isDone = false;
      const go = (outcome: number): void => {
        if (isDone) return;
        isDone = true;
        if (outcome !== 0) this.unguarded.set(token, outcome);
        found.keptUntil = this.host.clock.now() + KEEP_OWNER_MS;
        this.host.clock.setTimeout(() => {
          this.syncSoon();
        }, 2 * KEEP_OWNER_MS);
        setImmediate(done);
      };
      found.waiting?.push(go);
      this.host.clock.setTimeout(() => {
        go(-ETIMEDOUT);
      }, limit);
      return () => undefined;
    });
  }

  /** Gives an owner to the guard. Null when its process cannot be told. */
  take(hold: Hold): GuardedOwner | null {
    const found = this.host.processOf(hold);
    return found === null ? null : this.takeProcess(hold.owner.pid, found);
  }

  /** As {@link take}, of a process that is known. Takes the pidfd. Null when the process is gone by now. */
  takeProcess(pid: number, found: OwnerProcess): GuardedOwner | null {
    const { guard, host } = this;
    if (guard === null || !host.isAlive(found.pidfd)) {
      host.closePidfd(found.pidfd);
      return null;
    }
    const token = tokenOf({ pid, startTime: found.startTime });
    const known = this.owners.get(token);
    if (known !== undefined) {
      host.closePidfd(found.pidfd);
      return known;
    }
    const owner: GuardedOwner = { ...found, pid, waiting: [], calls: 0, keptUntil: -Infinity };
    this.owners.set(token, owner);
    guard.add(token, found.pidfd, (status) => {
      const waiting = owner.waiting ?? [];
      owner.waiting = status === 0 ? null : [];
      if (status !== 0) this.forget(token, owner);
      for (const done of waiting) done(status);
      if (status !== 0) host.refused(pid, status);
      this.syncSoon();
    });
    return owner;
  }

  /** Calls back when a guard has the owner, or has not taken it. */
  whenGuarded(owner: GuardedOwner, done: (status: number) => void): void {
    if (owner.waiting === null) done(0);
    else owner.waiting.push(done);
  }

  /** No lock is granted to an owner until the next guard has it: nobody but the daemon would end it. */
  guardDied(): void {
    for (const owner of this.owners.values()) owner.waiting ??= [];
  }

  /** Holds or calls have changed. */
  syncSoon(): void {
    if (this.isSyncDue || this.guard === null) return;
    this.isSyncDue = true;
    setImmediate(() => {
      this.isSyncDue = false;
      this.sync();
    });
  }

  /** Takes owners out of the guard that hold nothing any more. */
  private sync(): void {
    const now = this.host.clock.now();
    for (const [token, owner] of this.owners) {
      const isUsed = owner.calls > 0 || owner.waiting !== null || now < owner.keptUntil;
      if (isUsed || this.host.holdsAny(owner.pid)) continue;
      this.guard?.remove(token);
      this.forget(token, owner);
    }
  }

  private forget(token: number, owner: GuardedOwner): void {
    if (this.owners.get(token) !== owner) return;
    this.owners.delete(token);
    this.host.closePidfd(owner.pidfd);
  }
}

function tokenOf({ pid, startTime }: Pick<GuardedOwner, 'pid' | 'startTime'>): number {
  // A pid has 22 bits at most, and numbers have 53: of two processes with one pid, 248 days are between those with the same token.
  return (startTime % 0x8000_0000) * 0x40_0000 + pid;
}

export const CANNOT_BE_TOLD = 'its process cannot be told for certain';
export const NO_GUARD = 'the guard of locks in etcd does not answer';

/** @param status -errno of the guard; -ETIMEDOUT: no guard has answered */
export function whyUnguarded(status: number): string {
  return status === -ETIMEDOUT ? NO_GUARD : `it cannot be guarded: ${strerror(status)}`;
}

/** The answer to a call for a lock that such an owner would not get. */
export function notGuarded({ pid, name }: OwnerIdentity, reason: string): RpcError {
  const text = `Unable to acquire a lock for owner ${pid} (${name}): ${reason}`;
  return new RpcError(ErrorCode.SYSTEM_ERROR, ErrorDomain.LOCKSPACE, text, EPERM);
}
