/**
 * The host's lease in etcd. Its age counts from the moment at which the last keepalive that was answered had been sent, on a clock that
 * counts suspend: etcd counts from a later moment. A margin before its end the lease counts as ended here, whatever etcd would answer by
 * then: owners are killed in that time. It never counts on what etcd does of its own accord, such as to extend leases.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { logger } from '../log/log.ts';
import type { EtcdRequests, Reply } from './client.ts';
import { leaseName } from './keys.ts';
import { Failure } from './messages.ts';
import type { LeaseState } from './state.ts';

const log = logger('locking.etcd');

const MIN_MARGIN_MS = 1000;
const MAX_MARGIN_MS = 10_000;
/** Of the time to live. */
const MARGIN_SHARE = 1 / 4;
/** Keepalives in the time up to the margin. */
const KEEPALIVES = 4;
/** How long one may take at least, in milliseconds; otherwise twice the time to the next. */
const MIN_LIMIT_MS = 1000;
/** Keepalives without an answer, at most. */
const MAX_OUTSTANDING = 4;
/** Between two attempts to get a lease, in milliseconds. */
const AGAIN_MS = 1000;
/** The longest between two looks at the clock, which goes on while timers of a suspended host do not. */
const LOOK_MS = 500;
const GONE = 'etcd does not have it any more: it was revoked, or etcd was restored from a backup';
const MIN_BOUND_MS = 2000;
const MAX_BOUND_MS = 10_000;

/** How long before its end a lease of so many seconds counts as ended, in milliseconds. */
export function marginOf(seconds: number): number {
  return Math.min(Math.max(seconds * 1000 * MARGIN_SHARE, MIN_MARGIN_MS), MAX_MARGIN_MS);
}

/** How long a call of a client waits for etcd, in milliseconds. */
export function boundOf(seconds: number): number {
  return Math.min(Math.max((seconds * 1000) / 3, MIN_BOUND_MS), MAX_BOUND_MS);
}

export interface LeaseObserver {
  /** The key that tells other hosts of the lease, and its value. */
  announcement(id: string): { readonly key: ByteString; readonly value: ByteString };
  /** It was granted, or kept alive. */
  extended(isNew: boolean): void;
  /** Its time is over, or it is gone: nothing that is on it counts any more. */
  ended(reason: string): void;
}

/** In milliseconds. */
export interface LeaseClock {
  /** CLOCK_BOOTTIME. */
  now(): number;
  setTimeout(callback: () => void, milliseconds: number): unknown;
}

export class Lease {
  private readonly seconds: number;
  private readonly client: EtcdRequests;
  private readonly clock: LeaseClock;
  private readonly observer: LeaseObserver;
  private current: LeaseState | null = null;
  /** {@link LeaseObserver.ended} was called for it. */
  private isOver = false;
  private isAsking = false;
  private isConfirming = false;
  private outstanding = 0;
  private lastAttempt = -Infinity;
  private isLooking = false;
  private hasStopped = false;
  /** The last failure, as it was logged. */
  private failure = '';
  private isLateReported = false;

  constructor(seconds: number, client: EtcdRequests, clock: LeaseClock, observer: LeaseObserver) {
    this.seconds = seconds;
    this.client = client;
    this.clock = clock;
    this.observer = observer;
  }

  /** In decimal digits; null: there is none, or it has ended. */
  get id(): string | null {
    return this.isHeld ? (this.current?.id ?? null) : null;
  }

  /** Something may be put on it. */
  get isHeld(): boolean {
    return this.current !== null && !this.isOver && this.clock.now() < this.killAt;
  }

  /** The last one, ended or not. */
  get state(): LeaseState | undefined {
    return this.current === null ? undefined : { ...this.current, ...(this.isOver ? { isOver: true } : {}) };
  }

  /** When owners are killed. */
  get killAt(): number {
    const { sent, seconds } = this.current ?? { sent: -Infinity, seconds: 0 };
    return sent + seconds * 1000 - marginOf(seconds);
  }

  /** When etcd may have given everything on it to others. */
  get endsAt(): number {
    const { sent, seconds } = this.current ?? { sent: -Infinity, seconds: 0 };
    return sent + seconds * 1000;
  }

  /** Milliseconds since the last keepalive that was answered had been sent. */
  get age(): number {
    return this.current === null ? 0 : this.clock.now() - this.current.sent;
  }

  /** Milliseconds until owners are killed, unless it is kept alive. */
  get left(): number {
    return this.isOver ? 0 : this.killAt - this.clock.now();
  }

  /** Why etcd did not answer the last time; empty: it did. */
  get lastFailure(): string {
    return this.failure;
  }

  restore(state: LeaseState): void {
    const { id, seconds, cluster, sent } = state;
    this.current = { id, seconds, sent, ...(cluster === undefined ? {} : { cluster }) };
    this.isOver = state.isOver === true;
  }

  start(): void {
    this.look();
  }

  stop(): void {
    this.hasStopped = true;
  }

  /** Gives up one that has ended, and gets another. */
  renew(): void {
    const { current } = this;
    if (current !== null) {
      // Whatever is left on it is nobody's.
      this.client.request('revoke', { lease: current.id }, boundOf(this.seconds), () => undefined);
    }
    this.current = null;
    this.isOver = false;
    this.look();
  }

  /** Ends it now: it is known to be gone. */
  end(reason: string): void {
    if (this.current === null || this.isOver) return;
    this.isOver = true;
    this.observer.ended(reason);
  }

  private readonly look = (): void => {
    if (this.hasStopped) return;
    if (this.current === null) this.ask();
    else if (!this.isOver) this.keep();
    if (this.isLooking) return;
    this.isLooking = true;
    const rest = this.current === null || this.isOver ? LOOK_MS : this.killAt - this.clock.now();
    this.clock.setTimeout(
      () => {
        this.isLooking = false;
        this.look();
      },
      Math.max(Math.min(rest, LOOK_MS, this.interval / 2), 1),
    );
  };

  private get interval(): number {
    const seconds = this.current?.seconds ?? this.seconds;
    return (seconds * 1000 - marginOf(seconds)) / KEEPALIVES;
  }

  private ask(): void {
    const now = this.clock.now();
    if (this.isAsking || now < this.lastAttempt + AGAIN_MS) return;
    this.isAsking = true;
    this.lastAttempt = now;
    this.client.request(
      'grant',
      { seconds: this.seconds },
      boundOf(this.seconds),
      (reply) => {
        this.isAsking = false;
        if (!reply.ok) {
          this.fail(`This host gets no lease: ${reply.text}`);
          return;
        }
        // etcd may grant more than was asked for, and is not relied on to.
        const seconds = Math.min(reply.result.seconds, this.seconds);
        const { lease: id, cluster } = reply.result;
        this.current = { id, seconds, cluster, sent: Math.floor(now) };
        this.isOver = false;
        this.answered();
        log.info(`This host has the lease ${leaseName(id)} of ${seconds} s`);
        if (this.isHeld) this.observer.extended(true);
        else this.renew();
      },
      true,
    );
  }

  private keep(): void {
    const { current } = this;
    const now = this.clock.now();
    if (current === null) return;
    if (now >= this.killAt) {
      this.end(this.failure === '' ? 'no keepalive was answered in time' : this.failure);
      return;
    }
    if (!this.isLateReported && this.age > (this.killAt - current.sent) / 2) {
      this.isLateReported = true;
      const left = ((this.killAt - now) / 1000).toFixed(1);
      log.warn(
        `etcd has not answered a keepalive for ${(this.age / 1000).toFixed(1)} s: owners of locks in etcd are ended in ${left} s unless it does${this.failure === '' ? '' : `: ${this.failure}`}`,
      );
    }
    if (this.outstanding >= MAX_OUTSTANDING || now < this.lastAttempt + this.interval) return;
    this.lastAttempt = now;
    this.outstanding++;
    const limit = Math.max(Math.min(this.endsAt - now, Math.max(2 * this.interval, MIN_LIMIT_MS)), 1);
    const done = (reply: Reply<'keepAlive'>): void => {
      this.outstanding--;
      this.kept(current.id, now, reply);
    };
    this.client.request('keepAlive', { lease: current.id, cluster: current.cluster }, limit, done, true);
  }

  private kept(id: string, sent: number, reply: Reply<'keepAlive'>): void {
    const { current } = this;
    if (current?.id !== id || this.isOver) return;
    if (!reply.ok && reply.failure !== Failure.NO_LEASE) {
      this.fail(`The lease of this host is not kept alive: ${reply.text}`);
      this.askSoon();
      return;
    }
    if (!reply.ok || reply.result.seconds <= 0) {
      this.confirm(current);
      return;
    }
    this.answered();
    // An answer that comes later than that does not turn back what has begun.
    if (this.clock.now() >= this.killAt || sent <= current.sent) return;
    this.current = { ...current, sent: Math.floor(sent) };
    this.observer.extended(false);
  }

  /**
   * A leader that was just elected may not know the lease yet. Owners are ended at once if it is gone for certain. While that cannot be found
   * out, its time counts as before: nothing here moves it on.
   */
  private confirm({ id, cluster }: LeaseState): void {
    if (this.isConfirming) return;
    this.isConfirming = true;
    const limit = Math.max(Math.min(this.killAt - this.clock.now(), boundOf(this.seconds)), 1);
    const done = (reply: Reply<'confirm'>): void => {
      this.isConfirming = false;
      if (this.current?.id !== id || this.isOver) return;
      if (reply.ok && !reply.result.exists) {
        this.end(GONE);
        return;
      }
      const reason = reply.ok
        ? 'its new leader does not know it yet'
        : `whether it is gone is not known: ${reply.text}`;
      this.fail(`etcd has not kept the lease of this host alive, and ${reason}`);
      this.askSoon();
    };
    this.client.request('confirm', { lease: id, cluster, ...this.observer.announcement(id) }, limit, done, true);
  }

  /** etcd has refused to put something on it. Ends it if it is gone. */
  doubt(id: string): void {
    if (this.current?.id === id && !this.isOver) this.confirm(this.current);
  }

  /** The next keepalive need not wait. */
  private askSoon(): void {
    this.lastAttempt = Math.min(this.lastAttempt, this.clock.now() - this.interval + LOOK_MS);
  }

  private answered(): void {
    if (this.failure !== '') log.warn('etcd answers again');
    this.failure = '';
    this.isLateReported = false;
  }

  /** Once, for the same repeats. */
  private fail(text: string): void {
    if (this.failure === '') log.error(text);
    this.failure = text;
  }
}
