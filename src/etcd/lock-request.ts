/**
 * One request for a lock: waits for the lease, asks etcd, and has the owner guarded before the lock counts. It is answered once, never at once,
 * and at the latest when its time is over. A lock that etcd grants after that, or for an owner that cannot be told or guarded, is given back.
 */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import type { EngineLock } from '../lockspace/files.ts';
import type { LockMode } from '../lockspace/mode.ts';
import type { Hold } from '../lockspace/owner.ts';
import type { OnFound } from '../storage/asker.ts';
import {
  CANNOT_BE_TOLD,
  type GuardedOwner,
  type GuardedOwners,
  NO_GUARD,
  type OwnerProcess,
  type ProcessHost,
  whyUnguarded,
} from './guarded-owners.ts';
import type { LeaseClock } from './lease.ts';
import type { Entry } from './messages.ts';

const { EPERM, ETIMEDOUT } = constants.errno;

type Refused =
  | { readonly kind: 'busy'; readonly holders: readonly Entry[] }
  | { readonly kind: 'missing' }
  | { readonly kind: 'failed'; readonly errno: number; readonly text: string };

/** The answer of etcd. */
export type EtcdAnswer = { readonly kind: 'granted'; readonly lock: EngineLock } | Refused;

/** The answer to the call. The owner of a lock counts one call more until {@link RequestHost.ended}. */
export type Acquired =
  | { readonly kind: 'granted'; readonly lock: EngineLock; readonly owner: GuardedOwner }
  /** A call by another name has got it meanwhile. */
  | { readonly kind: 'known' }
  | Refused;

export interface LockWish {
  /** Without its ending: see keys.ts. */
  readonly resource: ByteString;
  readonly mode: LockMode;
  readonly hold: Hold;
}

export interface RequestHost extends Pick<ProcessHost, 'processOf' | 'closePidfd'> {
  readonly clock: LeaseClock;
  /** How long a request may take, in milliseconds. */
  readonly bound: number;
  readonly owners: Pick<GuardedOwners, 'takeProcess' | 'whenGuarded'>;
  /** The lease that locks are granted on; null: none are at present. */
  leaseId(): string | null;
  /** Why none are. */
  lackOfLease(): string;
  /** Calls back once there is a lease, or the time is over. */
  whenLeased(limit: number, done: () => void): void;
  /** @param limit milliseconds */
  askEtcd(wish: LockWish, lease: string, limit: number, done: (answer: EtcdAnswer) => void): void;
  /** Gives a lock back. */
  discard(lock: EngineLock, mode: LockMode): void;
  /** The next request for the lock may be made: this one is at etcd no more, and has no lock that no hold stands for. `owner`: whose it was. */
  ended(resource: ByteString, owner: GuardedOwner | null): void;
}

export class LockRequest {
  private readonly host: RequestHost;
  private readonly wish: LockWish;
  private readonly onFound: OnFound<Acquired>;
  /** On {@link LeaseClock.now}. */
  private until = Infinity;
  private hasForgotten = false;
  private isDone = false;
  /** Etcd works on it, which may take longer than the call waits. */
  private isAtEtcd = false;
  /** Until etcd has answered. */
  private process: OwnerProcess | null = null;
  /** Etcd has granted it, and the guard has not got its owner yet. */
  private granting: EngineLock | null = null;
  private owner: GuardedOwner | null = null;

  constructor(host: RequestHost, wish: LockWish, onFound: OnFound<Acquired>) {
    this.host = host;
    this.wish = wish;
    this.onFound = onFound;
  }

  /** Makes it. Nothing else of this host may ask for the lock until {@link RequestHost.ended}. */
  start(): void {
    const { host } = this;
    this.until = host.clock.now() + host.bound;
    if (host.leaseId() !== null) this.ask();
    else {
      setImmediate(() => {
        host.whenLeased(host.bound, () => {
          this.ask();
        });
      });
    }
    host.clock.setTimeout(() => {
      this.expire();
    }, host.bound);
  }

  /** In place of {@link start}, when it need not be made any more. */
  pass(): void {
    this.finish({ kind: 'known' });
  }

  /** Nobody waits for the answer any more. */
  get isForgotten(): boolean {
    return this.hasForgotten;
  }

  forget(): void {
    this.hasForgotten = true;
  }

  private ask(): void {
    if (this.isDone) return;
    const { host, wish } = this;
    const lease = host.leaseId();
    if (this.isForgotten || lease === null) {
      const text = this.isForgotten ? 'nobody waits for it' : host.lackOfLease();
      // The caller does not expect the answer yet.
      setImmediate(() => {
        this.fail(text);
      });
      return;
    }
    this.isAtEtcd = true;
    host.askEtcd(wish, lease, Math.max(this.until - host.clock.now(), 1), (answer) => {
      this.onAnswer(answer);
    });
    // While etcd works on it: a lock that it grants is given back if the owner cannot be told.
    this.process = host.processOf(wish.hold);
    if (this.process === null) {
      setImmediate(() => {
        this.cannotTell();
      });
    }
  }

  private onAnswer(answer: EtcdAnswer): void {
    const { process } = this;
    this.process = null;
    this.isAtEtcd = false;
    if (this.isDone) this.host.ended(this.wish.resource, null);
    if (answer.kind !== 'granted') {
      if (process !== null) this.host.closePidfd(process.pidfd);
      this.finish(answer);
    } else if (process === null || this.isDone) {
      if (process !== null) this.host.closePidfd(process.pidfd);
      this.host.discard(answer.lock, this.wish.mode);
      this.cannotTell();
    } else this.guard(answer.lock, process);
  }

  /** Only now: the guard kills nobody who only asks. */
  private guard(lock: EngineLock, process: OwnerProcess): void {
    const { host, wish } = this;
    const { pid, name } = wish.hold.owner;
    const owner = host.owners.takeProcess(pid, process);
    if (owner === null) {
      host.discard(lock, wish.mode);
      this.cannotTell();
      return;
    }
    owner.calls++;
    this.owner = owner;
    this.granting = lock;
    host.owners.whenGuarded(owner, (status) => {
      // It was given back when the time was over.
      if (this.isDone) return;
      if (status === 0) {
        this.finish({ kind: 'granted', owner, lock });
        return;
      }
      host.discard(lock, wish.mode);
      this.fail(`owner ${pid} (${name}) could not be ended with the lease: ${whyUnguarded(status)}`, -status);
    });
  }

  private cannotTell(): void {
    const { pid, name } = this.wish.hold.owner;
    this.fail(`owner ${pid} (${name}) could not be ended before the lease of this host does: ${CANNOT_BE_TOLD}`, EPERM);
  }

  /** The client of etcd answers within the time, too. Without a lease it has no deadline, and without a guard nobody else has one. */
  private expire(): void {
    if (this.isDone) return;
    const { host, granting } = this;
    if (granting !== null) host.discard(granting, this.wish.mode);
    if (host.leaseId() === null) this.fail(host.lackOfLease());
    else if (granting !== null) this.fail(NO_GUARD);
  }

  private fail(text: string, errno = ETIMEDOUT): void {
    this.finish({ kind: 'failed', errno, text });
  }

  private finish(answer: Acquired): void {
    if (this.isDone) return;
    this.isDone = true;
    const { host, wish } = this;
    if (answer.kind !== 'granted' && !this.isAtEtcd) host.ended(wish.resource, this.owner);
    const discard = (): void => {
      if (answer.kind !== 'granted') return;
      host.ended(wish.resource, answer.owner);
      host.discard(answer.lock, wish.mode);
    };
    if (this.isForgotten) discard();
    else this.onFound(answer, discard);
  }
}
