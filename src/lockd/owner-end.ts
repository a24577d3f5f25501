/**
 * Kills the process of one owner. Until that is known to be gone it may write, so the owner's locks stay held: SIGTERM at once,
 * SIGKILL after 1.6 s, both as C sends them. C then serves nobody for up to 3 s; here only those callers wait who ask for what the
 * owner holds.
 *
 * A pid alone does not name a process: another one may have it by now, which no signal must reach. A pidfd names one process for
 * good; a start time shows whether a pid still means the same process.
 */
import { constants } from 'node:os';
import { logger } from '../log/log.ts';
import { type HoldEnd, NO_PROCESS } from '../lockspace/owner.ts';
import { strerror } from '../posix/posix.ts';
import { Waiters } from '../rpc/waiting.ts';
import type { ProcessHost } from './process-host.ts';
import type { Evidence, OwnerEndState } from './state.ts';

const log = logger('locking.lock_daemon');

const { EAGAIN, EINVAL, ENODATA, ENOPROTOOPT, ESRCH } = constants.errno;

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
  /** Its {@link OwnerEnd.state} has changed. */
  onChange(end: OwnerEnd): void;
  /** A descriptor of its former state is about to be closed. */
  onClosing(fd: number): void;
  /** Its process is known to be gone. */
  onGone(end: OwnerEnd): void;
  /** It is no longer {@link OwnerEnd.isAwaited}, and its process may live on. */
  onOverdue(end: OwnerEnd): void;
}

export class OwnerEnd extends Waiters implements HoldEnd {
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
  /** The last failure in the log. */
  private failure = '';

  constructor(state: OwnerEndState, host: ProcessHost, observer: EndObserver) {
    super();
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

  /** Takes the next step, and repeats that until the process is gone. */
  readonly proceed = (): void => {
    if (this.isGone) return;
    if (!this.isWatched && !this.identify()) return;
    if (this.evidence.isProcess === true) this.sendDue();
    if (this.isOverdue) {
      this.reportOnce();
      this.wake();
      this.observer.onOverdue(this);
      // From here on only the pidfd reports anything new.
      if (this.isWatched && (this.killSent || this.evidence.isProcess !== true)) return;
    }
    this.host.setTimeout(this.proceed, this.reported ? OVERDUE_RETRY_MS : RETRY_MS);
  };

  /** Finds the process, as far as possible now. False when it is gone. */
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
    // The pidfd replaces the socket that led to it. The service manager may have no room for it: then the start time is left.
    const { socket, startTime = kind === 'process' ? startBehind(this.pid, pidfd, this.host) : undefined } =
      this.evidence;
    this.evidence = { pidfd, isProcess: kind === 'process', ...(startTime === undefined ? {} : { startTime }) };
    this.observer.onChange(this);
    if (socket !== undefined) this.closeOne(socket);
    return true;
  }

  /** Sends SIGKILL now, without the time that SIGTERM gives. */
  hurry(): void {
    const due = this.host.now() - KILL_AFTER_MS;
    this.termSent = Math.min(this.termSent ?? due, due);
    this.proceed();
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
    this.observer.onChange(this);
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
    this.evidence = {};
    for (const fd of [pidfd, socket]) if (fd !== undefined) this.closeOne(fd);
  }

  private closeOne(fd: number): void {
    this.observer.onClosing(fd);
    this.host.close(fd);
  }
}

/** `errno` is positive. */
type FoundProcess =
  | { readonly kind: 'gone' }
  | { readonly kind: 'unknown'; readonly errno: number }
  | {
      /** `number`: a process that has the owner's pid now, and may be another. Once it is gone, the owner is, too. */
      readonly kind: 'process' | 'number';
      readonly pidfd: number;
    };

const GONE: FoundProcess = { kind: 'gone' };

/** Finds the process of the owner with this pid. The caller closes the pidfd. */
function findProcess(pid: number, evidence: Evidence, host: ProcessHost): FoundProcess {
  const { pidfd, isProcess, socket } = evidence;
  if (pidfd !== undefined) return { kind: isProcess === true ? 'process' : 'number', pidfd };
  // Neither init nor this process is ever killed.
  const mayEnd = pid > 1 && pid !== host.ownPid;
  if (socket !== undefined) {
    const found = host.peerPidfd(socket);
    if (found >= 0) return { kind: mayEnd ? 'process' : 'number', pidfd: found };
    if (found === -ESRCH) return GONE;
    if (mayPass(found)) return { kind: 'unknown', errno: -found };
  }
  const found = findByPid(pid, evidence.startTime, host);
  return found.kind === 'process' && !mayEnd ? { ...found, kind: 'number' } : found;
}

/**
 * Whether the kernel may report a connection's peer at a later try. It never will before Linux 6.5 (ENOPROTOOPT), up to about 6.8 for
 * a peer that is reaped (EINVAL), and for a connection without one (ENODATA).
 */
export function mayPass(status: number): boolean {
  return status !== -ENOPROTOOPT && status !== -EINVAL && status !== -ENODATA;
}

/** When the process behind the pidfd started, if it has had the pid at least until now. */
export function startBehind(pid: number, pidfd: number, host: ProcessHost): number | undefined {
  const present = host.startTime(pid);
  return typeof present === 'number' && host.signal(pidfd, 0) >= 0 ? present : undefined;
}

/** The process that has this pid now. With a start time also whether that is the owner's. */
export function findByPid(pid: number, startTime: number | undefined, host: ProcessHost): FoundProcess {
  if (startTime === NO_PROCESS) return GONE;
  const pidfd = host.openPidfd(pid);
  if (pidfd === -ESRCH) return GONE;
  if (pidfd < 0) {
    // A thread may have the number by now, of which there is no pidfd.
    const later = startTime === undefined ? undefined : host.startTime(pid);
    return typeof later === 'number' && later !== startTime ? GONE : { kind: 'unknown', errno: -pidfd };
  }
  if (startTime === undefined) return { kind: 'number', pidfd };
  // Read after the pidfd was opened: if the pid names the right process now, it did then.
  const present = host.startTime(pid);
  if (present === startTime) return { kind: 'process', pidfd };
  host.close(pidfd);
  return present === undefined ? { kind: 'unknown', errno: EAGAIN } : GONE;
}
