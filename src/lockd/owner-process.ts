/**
 * Which process an owner is. A pid alone does not tell: it may have been given to another process, which no signal must
 * reach. A pidfd names one process for good; a start time tells whether a pid still means the same process.
 */
import { constants } from 'node:os';
import type { ProcessHost } from './process-host.ts';
import type { Evidence } from './state.ts';

const { EAGAIN, EINVAL, ENODATA, ENOPROTOOPT, ESRCH } = constants.errno;

/** `errno` is positive. */
export type FoundProcess =
  | { readonly kind: 'gone' }
  | { readonly kind: 'unknown'; readonly errno: number }
  | {
      /** `number`: whoever has the owner's pid now. Once that one is gone, the owner is, too. */
      readonly kind: 'process' | 'number';
      readonly pidfd: number;
    };

const GONE: FoundProcess = { kind: 'gone' };

/** Finds the process of the owner with this pid. The pidfd found is the caller's to close. */
export function findProcess(pid: number, evidence: Evidence, host: ProcessHost): FoundProcess {
  const { pidfd, isProcess, socket } = evidence;
  if (pidfd !== undefined) return { kind: isProcess === true ? 'process' : 'number', pidfd };
  // Not ours to end: init, and ourselves.
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
 * Whether the kernel may name the peer of a connection another time. It never will before Linux 6.5 (ENOPROTOOPT), up to 6.8 or so
 * when the peer is gone and reaped (EINVAL), and when there was none (ENODATA).
 */
export function mayPass(status: number): boolean {
  return status !== -ENOPROTOOPT && status !== -EINVAL && status !== -ENODATA;
}

function findByPid(pid: number, startTime: number | undefined, host: ProcessHost): FoundProcess {
  const pidfd = host.openPidfd(pid);
  if (pidfd === -ESRCH) return GONE;
  if (pidfd < 0) return { kind: 'unknown', errno: -pidfd };
  if (startTime === undefined) return { kind: 'number', pidfd };
  // Asked after the pidfd was opened: if it is the right one now, it was then.
  const present = host.startTime(pid);
  if (present === startTime) return { kind: 'process', pidfd };
  host.close(pidfd);
  return present === undefined ? { kind: 'unknown', errno: EAGAIN } : GONE;
}
