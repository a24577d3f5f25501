/** Processes and the clock as the end of owners uses them: a test can let 3 seconds pass in no time. */
import { constants } from 'node:os';
import { kernelIsAtLeast } from '../proc/kernel.ts';
import { isLocalProcess, startTimeOf } from '../proc/identity.ts';
import { posix } from '../posix/posix.ts';
import type { Poller } from '../rpc/poller.ts';

const { signals } = constants;

/** Functions return a descriptor or 0, or a negative errno. */
export interface ProcessHost {
  readonly ownPid: number;
  /** When the daemon's own process started: see {@link startTimeOf}. */
  readonly ownStartTime: number | undefined;
  /** {@link peerPidfd} works: Linux 6.5 and later. */
  readonly reportsPeers: boolean;
  /** A pidfd of the process that made the connection, dead or alive. */
  peerPidfd(socket: number): number;
  /** A pidfd of the process that has the pid now. */
  openPidfd(pid: number): number;
  /** See {@link startTimeOf}. */
  startTime(pid: number): number | null | undefined;
  /** See {@link isLocalProcess}. */
  isLocal(pid: number): boolean | undefined;
  /** -ESRCH once the process is reaped. The signal 0 is none, and only asks. */
  signal(pidfd: number, signal: 'SIGTERM' | 'SIGKILL' | 0): number;
  /** Calls back once the process behind a pidfd is gone. @throws Error when it cannot be watched */
  watch(pidfd: number, onGone: () => void): void;
  /** Closes a pidfd, which may be watched, or a socket. */
  close(fd: number): void;
  /** Milliseconds, of a clock that goes on over a re-execution. */
  now(): number;
  setTimeout(callback: () => void, milliseconds: number): unknown;
}

/** @param poller watches pidfds */
export function realHost(poller: Poller): ProcessHost {
  return {
    ownPid: process.pid,
    get ownStartTime() {
      return startTimeOf(process.pid) ?? undefined;
    },
    reportsPeers: kernelIsAtLeast(6, 5),
    peerPidfd: (socket) => posix.peerPidfd(socket),
    openPidfd: (pid) => posix.pidfdOpen(pid),
    startTime: startTimeOf,
    isLocal: isLocalProcess,
    signal: (pidfd, signal) => posix.pidfdSignal(pidfd, signal === 0 ? 0 : signals[signal]),
    watch: (pidfd, onGone) => {
      poller.watch(pidfd, onGone);
    },
    close: (fd) => {
      poller.unwatch(fd);
      posix.close(fd);
    },
    now: () => Number(process.hrtime.bigint() / 1_000_000n),
    setTimeout: (callback, milliseconds) => setTimeout(callback, milliseconds),
  };
}
