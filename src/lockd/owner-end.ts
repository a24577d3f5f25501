/**
 * The end of one owner. Its locks stay held until its process is known to be gone, for until then it may write: SIGTERM at
 * once, SIGKILL after 1.6 s, both as C sends them. C serves nobody meanwhile, for 3 s at most; here those wait who ask for
 * what the owner holds, for as long as they would with C.
 */
import os from 'node:os';
import { logger } from '../log/log.ts';
import type { HoldEnd } from '../lockspace/owner.ts';
import { strerror } from '../posix/posix.ts';
import { findProcess } from './owner-process.ts';
import type { ProcessHost } from './process-host.ts';
import type { Evidence, OwnerEndState } from './state.ts';

const log = logger('locking.lock_daemon');

const { ESRCH } = os.constants.errno;

/** Between two looks at what is due, in milliseconds. */
const LOOK_EVERY_MS = 200;
/** The same for an owner that could not be ended in time. */
const LOOK_SELDOM_MS = 5000;
/** From SIGTERM to SIGKILL. */
const KILL_AFTER_MS = 1600;
/** For how long C serves nobody. */
const AWAITED_MS = 3000;

/** Who is told of what becomes of an end. */
export interface EndObserver {
  /** Its {@link OwnerEnd.state} has changed. */
  onChange(end: OwnerEnd): void;
  /** A descriptor that was part of its state is about to be closed. */
  onClosing(fd: number): void;
  /** Its process is known to be gone. */
  onGone(end: OwnerEnd): void;
  /** It is not {@link OwnerEnd.isAwaited} any more, and its process may live on. */
  onOverdue(end: OwnerEnd): void;
}

export class OwnerEnd implements HoldEnd {
  readonly id: number;
  readonly pid: number;
  readonly name: string;
  readonly began: number;
  /** Its process is known to be gone. */
  isGone = false;
  private readonly host: ProcessHost;
  private readonly observer: EndObserver;
  private evidence: Evidence;
  private isWatched = false;
  private termSent: number | undefined;
  private killSent: boolean;
  private reported: boolean;
  /** The last failure that the log names. */
  private failure = '';
  private readonly waiters = new Set<() => void>();

  constructor(state: OwnerEndState, host: ProcessHost, observer: EndObserver) {
    const { id, pid, name, began, termSent, killSent = false, reported = false, ...evidence } = state;
    this.id = id;
    this.pid = pid;
    this.name = name;
    this.began = began;
    this.termSent = termSent;
    this.killSent = killSent;
    this.reported = reported;
    this.evidence = evidence;
    this.host = host;
    this.observer = observer;
  }

  get state(): OwnerEndState {
    const { id, pid, name, began, termSent, killSent, reported, evidence } = this;
    return {
      id,
      pid,
      name,
      began,
      ...evidence,
      ...(termSent === undefined ? {} : { termSent }),
      ...(killSent ? { killSent } : {}),
      ...(reported ? { reported } : {}),
    };
  }

  /** Those wait who ask for what it holds. */
  get isAwaited(): boolean {
    return !this.isGone && this.host.now() < this.began + AWAITED_MS;
  }

  /** Its process may live on although everything was done to end it. */
  get isOverdue(): boolean {
    return !this.isGone && !this.isAwaited;
  }

  wait(done: () => void): () => void {
    this.waiters.add(done);
    return () => {
      this.waiters.delete(done);
    };
  }

  /** Has those who wait make their calls again. */
  wake(): void {
    const waiters = [...this.waiters];
    this.waiters.clear();
    for (const done of waiters) done();
  }

  /** Does what is due now, and goes on doing so until the process is gone. */
  readonly look = (): void => {
    if (this.isGone) return;
    if (!this.isWatched && !this.identify()) return;
    if (this.evidence.isProcess === true) this.sendDue();
    if (this.isOverdue) {
      this.reportOnce();
      this.wake();
      this.observer.onOverdue(this);
      // From here on only the pidfd tells anything new.
      if (this.isWatched && (this.killSent || this.evidence.isProcess !== true)) return;
    }
    this.host.setTimeout(this.look, this.reported ? LOOK_SELDOM_MS : LOOK_EVERY_MS);
  };

  /** Finds the process, as far as it can be found now. Whether there may be one. */
  private identify(): boolean {
    const found = findProcess(this.pid, this.evidence, this.host);
    if (found.kind === 'gone') {
      this.gone();
      return false;
    }
    if (found.kind === 'unknown') {
      this.logFailure(`Cannot find out whether owner ${this.pid} is gone: ${strerror(found.errno)}`);
      return true;
    }
    const { kind, pidfd } = found;
    this.evidence = { ...this.evidence, pidfd, isProcess: kind === 'process' };
    this.observer.onChange(this);
    try {
      this.host.watch(pidfd, () => {
        this.gone();
      });
      this.isWatched = true;
    } catch (error) {
      this.logFailure(`Cannot watch owner ${this.pid}: ${(error as Error).message}`);
      return true;
    }
    // The pidfd is better than what led to it.
    const { socket } = this.evidence;
    this.evidence = { pidfd, isProcess: kind === 'process' };
    this.observer.onChange(this);
    if (socket !== undefined) this.closeOne(socket);
    return true;
  }

  private sendDue(): void {
    const now = this.host.now();
    if (this.termSent === undefined) {
      if (!this.send('SIGTERM')) return;
      this.termSent = now;
    } else {
      if (this.killSent || now < this.termSent + KILL_AFTER_MS || !this.send('SIGKILL')) return;
      this.killSent = true;
    }
    this.observer.onChange(this);
  }

  /** Whether it was sent. To a process that is gone nothing is; its pidfd then says so. */
  private send(signal: 'SIGTERM' | 'SIGKILL'): boolean {
    const { pidfd } = this.evidence;
    if (pidfd === undefined) return false;
    const status = this.host.signal(pidfd, signal);
    if (status < 0 && status !== -ESRCH)
      this.logFailure(`Unable to send ${signal} to owner ${this.pid}: ${strerror(status)}`);
    return status >= 0;
  }

  private reportOnce(): void {
    if (this.reported) return;
    this.reported = true;
    this.observer.onChange(this);
    log.error(this.text);
  }

  /** What an operator is told of an owner that could not be ended. */
  get text(): string {
    const advice =
      'its locks stay held until it is gone: see what the process waits for (ps -o stat,wchan), and end it';
    return `owner ${this.pid} (${this.name}) ${this.reason}: ${advice}`;
  }

  /** Why its process may live on. */
  private get reason(): string {
    if (this.killSent) return 'does not die of SIGKILL';
    if (this.evidence.isProcess === true) return 'could not be sent SIGKILL';
    return this.isWatched
      ? 'has a pid that may be another process by now, which is not killed'
      : 'could not be identified';
  }

  /** The same failure comes every 200 ms. */
  private logFailure(text: string): void {
    if (text !== this.failure) log.warn(`${text}: its locks stay held`);
    this.failure = text;
  }

  private gone(): void {
    if (this.isGone) return;
    this.isGone = true;
    this.close();
    this.observer.onGone(this);
  }

  /** Closes the descriptors that it has. */
  private close(): void {
    const { pidfd, socket } = this.evidence;
    this.evidence = {};
    for (const fd of [pidfd, socket]) if (fd !== undefined) this.closeOne(fd);
  }

  private closeOne(fd: number): void {
    this.observer.onClosing(fd);
    this.host.close(fd);
  }
}
