/** What the end of an owner needs of the world, so that a test can let 3 seconds pass in no time. */
import { constants } from 'node:os';
import { kernelIsAtLeast } from '../proc/kernel.ts';
import { isLocalProcess } from '../proc/processes.ts';
import { startTimeOf } from '../proc/start-time.ts';
import { posix } from '../posix/posix.ts';
import type { Poller } from '../rpc/poller.ts';

const { signals } = constants;

/** Functions that return a descriptor or a status return a negative errno when they fail. */
export interface ProcessHost {
  readonly ownPid: number;
  /** When the daemon's own process started: see {@link startTimeOf}. */
  readonly ownStartTime: number | undefined;
  /** {@link peerPidfd} works: Linux 6.5 and later. */
  readonly tellsPeers: boolean;
  /** A pidfd of the process that made the connection, dead or alive. */
  peerPidfd(socket: number): number;
  /** A pidfd of the process that has the pid now. */
  openPidfd(pid: number): number;
  /** See {@link startTimeOf}. */
  startTime(pid: number): number | null | undefined;
  /** See {@link isLocalProcess}. */
  isLocal(pid: number): boolean | undefined;
  signal(pidfd: number, signal: 'SIGTERM' | 'SIGKILL'): number;
  /** Calls back once the process behind a pidfd is gone. @throws Error when it cannot be watched */
  watch(pidfd: number, onGone: () => void): void;
  /** Closes a pidfd, which may be watched, or a socket. */
  close(fd: number): void;
  /** Milliseconds of a clock that a re-execution does not change. */
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
    tellsPeers: kernelIsAtLeast(6, 5),
    peerPidfd: (socket) => posix.peerPidfd(socket),
    openPidfd: (pid) => posix.pidfdOpen(pid),
    startTime: startTimeOf,
    isLocal: isLocalProcess,
    signal: (pidfd, signal) => posix.pidfdSignal(pidfd, signals[signal]),
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
