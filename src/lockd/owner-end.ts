/**
 * The end of one owner. Its locks stay held until its process is known to be gone, because until then it may write. It gets
 * SIGTERM at once and SIGKILL after 1.6 s, as from C. C serves no client until then, for 3 s at most. Here only calls for the
 * owner's resources wait, for as long as with C.
 */
import { constants } from 'node:os';
import { logger } from '../log/log.ts';
import type { HoldEnd } from '../lockspace/owner.ts';
import { strerror } from '../posix/posix.ts';
import { findProcess } from './owner-process.ts';
import type { ProcessHost } from './process-host.ts';
import type { Evidence, OwnerEndState } from './state.ts';

const log = logger('locking.lock_daemon');

const { ESRCH } = constants.errno;

/** The interval between two attempts, in milliseconds. */
const RETRY_MS = 200;
/** The same for an owner that did not end in time. */
const OVERDUE_RETRY_MS = 5000;
/** From SIGTERM to SIGKILL. */
const KILL_AFTER_MS = 1600;
/** C's blocking time. */
const AWAITED_MS = 3000;

/** Gets the outcome of an end. */
interface EndObserver {
  /** Its process is known to be gone. */
  onGone(end: OwnerEnd): void;
  /** It is no longer {@link OwnerEnd.isAwaited}, and its process may live on. */
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

  /** Calls for its resources wait. */
  get isAwaited(): boolean {
    return !this.isGone && this.host.now() < this.began + AWAITED_MS;
  }

  /** Its process may live on, and calls for its resources no longer wait. */
  get isOverdue(): boolean {
    return !this.isGone && !this.isAwaited;
  }

  wait(done: () => void): () => void {
    this.waiters.add(done);
    return () => {
      this.waiters.delete(done);
    };
  }

  /** Has the waiting calls made again. */
  wake(): void {
    const waiters = [...this.waiters];
    this.waiters.clear();
    for (const done of waiters) done();
  }

  /** Takes the next step, and repeats that until the process is gone. */
  readonly proceed = (): void => {
    if (this.isGone) return;
    if (!this.isWatched && !this.identify()) return;
    if (this.evidence.isProcess === true) this.sendDue();
    if (this.isOverdue) {
      this.reportOnce();
      this.wake();
      this.observer.onOverdue(this);
      // From here on only the pidfd brings news.
      if (this.isWatched && (this.killSent || this.evidence.isProcess !== true)) return;
    }
    this.host.setTimeout(this.proceed, this.reported ? OVERDUE_RETRY_MS : RETRY_MS);
  };

  /** Looks for the process. False when it is gone. */
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
    try {
      this.host.watch(pidfd, () => {
        this.gone();
      });
      this.isWatched = true;
    } catch (error) {
      this.logFailure(`Cannot watch owner ${this.pid}: ${(error as Error).message}`);
      return true;
    }
    // The pidfd replaces the evidence that led to it.
    if (this.evidence.socket !== undefined) this.host.close(this.evidence.socket);
    this.evidence = { pidfd, isProcess: kind === 'process' };
    return true;
  }

  private sendDue(): void {
    const now = this.host.now();
    if (this.termSent === undefined) {
      if (this.send('SIGTERM')) this.termSent = now;
    } else if (!this.killSent && now >= this.termSent + KILL_AFTER_MS && this.send('SIGKILL')) this.killSent = true;
  }

  /** Whether the signal was sent. It is not to a process that is gone, which its pidfd reports. */
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
    log.error(this.text);
  }

  /** The message for an operator about an owner that could not be ended. */
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

  /** Once, because the same failure repeats at every attempt. */
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

  private close(): void {
    const { pidfd, socket } = this.evidence;
    for (const fd of [pidfd, socket]) if (fd !== undefined) this.host.close(fd);
    this.evidence = {};
  }
}
