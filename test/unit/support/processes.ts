/** Fake processes and a fake clock, for the end of owners. */
import os from 'node:os';
import type { ProcessHost } from '../../../src/lockd/process-host.ts';

const { EMFILE, ENOPROTOOPT, ESRCH } = os.constants.errno;

interface Fake {
  readonly pid: number;
  readonly startTime: number;
  alive: boolean;
}

export class World implements ProcessHost {
  readonly ownPid = 1000;
  readonly ownStartTime = 500;
  /** `SIGTERM 300 at 0`, in order. */
  readonly signals: string[] = [];
  /** The reaction of a process to a signal. */
  onSignal: (signal: string, pid: number) => void = () => undefined;
  /** There is no descriptor left. */
  exhausted = false;
  /** The kernel does not report the process of a peer. */
  isOld = false;

  get reportsPeers(): boolean {
    return !this.isOld;
  }

  /** The kernel's error for a peer that is gone; 0: it gives a pidfd all the same. */
  gonePeer = 0;
  local: boolean | undefined = true;
  time = 0;
  /** How often the clock was read. */
  readings = 0;
  private readonly processes: Fake[] = [];
  private readonly pidfds = new Map<number, Fake>();
  private readonly sockets = new Map<number, Fake>();
  private readonly watched = new Map<number, () => void>();
  private timers: { at: number; callback: () => void }[] = [];
  private nextFd = 1_000_000;

  /** Begins a process; its pid may have been another's. */
  begin(pid: number, startTime = 600): void {
    this.processes.unshift({ pid, startTime, alive: true });
  }

  /** A socket whose peer is the process that has this pid now: `fd`, or none that is open. */
  socketOf(pid: number, fd = this.nextFd++): number {
    const fake = this.find(pid);
    if (fake !== undefined) this.sockets.set(fd, fake);
    return fd;
  }

  /** Lets the process die that has this pid. */
  end(pid: number): void {
    const fake = this.find(pid);
    if (fake === undefined) return;
    fake.alive = false;
    for (const [fd, onGone] of [...this.watched]) if (this.pidfds.get(fd) === fake) onGone();
  }

  /** Descriptors that are open. */
  get open(): number {
    return this.pidfds.size;
  }

  peerPidfd(socket: number): number {
    if (this.isOld) return -ENOPROTOOPT;
    const peer = this.sockets.get(socket);
    return this.gonePeer < 0 && peer?.alive !== true ? this.gonePeer : this.openFake(peer);
  }

  openPidfd(pid: number): number {
    return this.openFake(this.find(pid));
  }

  startTime(pid: number): number | null | undefined {
    return this.exhausted ? undefined : (this.find(pid)?.startTime ?? null);
  }

  isLocal(): boolean | undefined {
    return this.local;
  }

  signal(pidfd: number, signal: 'SIGTERM' | 'SIGKILL' | 0): number {
    const fake = this.pidfds.get(pidfd);
    if (fake?.alive !== true) return -ESRCH;
    if (signal === 0) return 0;
    this.signals.push(`${signal} ${fake.pid} at ${this.time}`);
    this.onSignal(signal, fake.pid);
    return 0;
  }

  watch(pidfd: number, onGone: () => void): void {
    this.watched.set(pidfd, onGone);
    if (this.pidfds.get(pidfd)?.alive !== true) this.setTimeout(onGone, 0);
  }

  close(fd: number): void {
    this.pidfds.delete(fd);
    this.watched.delete(fd);
  }

  now(): number {
    this.readings++;
    return this.time;
  }

  setTimeout(callback: () => void, milliseconds: number): void {
    this.timers.push({ at: this.time + milliseconds, callback });
  }

  forgetTimers(): void {
    this.timers = [];
  }

  /** Lets so much time pass. */
  pass(milliseconds: number): void {
    const until = this.time + milliseconds;
    for (;;) {
      const [next] = this.timers.filter(({ at }) => at <= until).sort((one, other) => one.at - other.at);
      if (next === undefined) break;
      this.timers = this.timers.filter((timer) => timer !== next);
      this.time = Math.max(this.time, next.at);
      next.callback();
    }
    this.time = until;
  }

  private find(pid: number): Fake | undefined {
    return this.processes.find((fake) => fake.pid === pid && fake.alive);
  }

  private openFake(fake: Fake | undefined): number {
    if (this.exhausted) return -EMFILE;
    if (fake === undefined) return -ESRCH;
    this.pidfds.set(this.nextFd, fake);
    return this.nextFd++;
  }
}
