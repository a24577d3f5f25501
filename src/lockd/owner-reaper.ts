/**
 * Decides whose process is killed: that of an owner whose own connection ends while it holds locks, of one whose locks were lost,
 * and of every owner when the daemon itself ends. owner-end.ts kills it. Once the process is gone, the owner's locks are released in
 * slices: there may be very many, and nobody else waits longer than one slice.
 */
import { constants } from 'node:os';
import { logger } from '../log/log.ts';
import type { Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import { type Hold, NO_PROCESS } from '../lockspace/owner.ts';
import { strerror } from '../posix/posix.ts';
import { SLICE_MS } from '../rpc/slices.ts';
import type { LockClient } from './client.ts';
import { mayPass, OwnerEnd } from './owner-end.ts';
import type { ProcessHost } from './process-host.ts';
import type { Evidence, OwnerEndState, WatchedOwner } from './state.ts';

const log = logger('locking.lock_daemon');
const { EINVAL, ESRCH } = constants.errno;

/** Until a failed attempt is repeated, in milliseconds. */
const RETRY_MS = 200;

/** The holds of an owner that is gone, while they are being released. */
interface Release {
  readonly end: OwnerEnd;
  readonly left: Iterator<Resource>;
}

/** Records the ends of owners, each step before it is done. No method may throw. */
export interface EndRecorder {
  /** The end of an owner has begun, and its holds refer to it ({@link Hold.end}). */
  endBegan(end: OwnerEnd): void;
  endChanged(end: OwnerEnd): void;
  /** The owner's holds are released. */
  endDone(end: OwnerEnd): void;
  /** {@link OwnerReaper.watched} has changed. */
  watchedChanged(): void;
  /** A descriptor of an end or of a watched owner is about to be closed. */
  closing(fd: number): void;
}

const nothing = (): void => undefined;

export const NO_END_RECORDER: EndRecorder = {
  endBegan: nothing,
  endChanged: nothing,
  endDone: nothing,
  watchedChanged: nothing,
  closing: nothing,
};

interface ReaperOptions {
  readonly lockspaces: Lockspaces;
  readonly host: ProcessHost;
  /** The socket of the open connection of the process with this pid, if it has one. */
  readonly socketOf: (pid: number) => number | undefined;
}

export class OwnerReaper {
  private readonly lockspaces: Lockspaces;
  private readonly host: ProcessHost;
  private readonly socketOf: ReaperOptions['socketOf'];
  private readonly ends = new Set<OwnerEnd>();
  private nextId = 1;
  recorder = NO_END_RECORDER;
  /** By pidfd. */
  private readonly watchedOwners = new Map<number, WatchedOwner>();
  private readonly releases: Release[] = [];
  private scheduled = false;
  private idle: (() => void)[] = [];

  constructor({ lockspaces, host, socketOf }: ReaperOptions) {
    this.lockspaces = lockspaces;
    this.host = host;
    this.socketOf = socketOf;
  }

  /** The number of owners that are being ended. */
  get count(): number {
    return this.ends.size;
  }

  /** The number of those that callers wait for: see {@link OwnerEnd.isAwaited}. */
  get awaited(): number {
    let count = 0;
    for (const end of this.ends) if (end.isAwaited) count++;
    return count;
  }

  /** Owners that could not be killed, and keep their locks. */
  get overdue(): OwnerEnd[] {
    return [...this.ends].filter(({ isOverdue }) => isOverdue);
  }

  /** The owners that are being ended: a successor goes on with them. */
  get unfinished(): readonly OwnerEnd[] {
    return [...this.ends];
  }

  /** Owners of {@link watch} whose processes have not ended. */
  get watched(): readonly WatchedOwner[] {
    return [...this.watchedOwners.values()];
  }

  /** Releases an owner's holds once its process has ended, for owners without a connection. */
  watch(pid: number, pidfd: number): void {
    this.watchedOwners.set(pidfd, { pid, pidfd });
    // Deferred, because the epoll of the previous program image may not be taken over yet.
    this.host.setTimeout(() => {
      this.host.watch(pidfd, () => {
        this.watchedOwners.delete(pidfd);
        const holds = this.liveHoldsOf(pid);
        if (holds.length > 0) this.begin(pid, holds, { pidfd, isProcess: true });
        else this.close(pidfd);
        this.recorder.watchedChanged();
      });
    }, 0);
  }

  /** Releases the holds of an owner whose process has ended; its start time identifies that process. */
  gone(pid: number, startTime: number): void {
    const holds = this.liveHoldsOf(pid);
    if (holds.length > 0) this.begin(pid, holds, { startTime });
  }

  /** The connection of `client` has ended; its socket is still open. */
  clientClosed(client: LockClient): void {
    // libvirtd calls on behalf of owners: when it hangs up, their locks stay.
    if (client.owner !== null && client.isOwnerItself) this.endPeer(client, this.liveHoldsOf(client.owner.pid));
  }

  /**
   * Kills the peer of a connection that has ended, if it holds any of these, which were held then.
   *
   * @param socket the connection's, if it was kept for another attempt
   */
  private endPeer(client: LockClient, live: readonly Hold[], socket?: number): void {
    const { connection } = client;
    const { pid, startTime } = connection.peer;
    const isDoubtful = live.some(({ owner, client }) => owner.startTime !== undefined || client !== connection.id);
    const isPeers = isDoubtful ? this.peerTest(client) : () => true;
    if (isPeers === null) {
      const kept = socket ?? connection.keepSocket();
      this.host.setTimeout(() => {
        const still = new Set(this.liveHoldsOf(pid));
        this.endPeer(
          client,
          live.filter((hold) => still.has(hold)),
          kept,
        );
      }, RETRY_MS);
      return;
    }
    const holds = live.filter(isPeers);
    if (holds.length === 0) {
      if (socket !== undefined) this.close(socket);
      return;
    }
    log.info(`Owner ${pid} (${client.ownerName}) is gone with ${holds.length} locks held`);
    this.begin(pid, holds, {
      socket: socket ?? connection.keepSocket(),
      ...(startTime === undefined ? {} : { startTime }),
    });
  }

  /** Kills the owner with this pid: its locks are lost, or will not be guarded any more. */
  end(pid: number): void {
    // The holds of a pid may be of several processes, one after the other.
    const groups = new Map<number | undefined, Hold[]>();
    for (const hold of this.liveHoldsOf(pid)) {
      const { startTime } = hold.owner;
      const group = groups.get(startTime);
      if (group === undefined) groups.set(startTime, [hold]);
      else group.push(hold);
    }
    for (const [startTime, holds] of groups) {
      const evidence = startTime === undefined ? this.evidenceByPid(pid) : { startTime };
      if (evidence !== null) this.begin(pid, holds, evidence);
      else {
        this.host.setTimeout(() => {
          this.end(pid);
        }, RETRY_MS);
      }
    }
  }

  /** Kills all owners: the daemon itself ends. */
  endAll(): void {
    for (const pid of this.lockspaces.ownerPids) this.end(pid);
  }

  /** Resumes an end that was begun before a re-execution, with the holds that it releases. */
  resume(state: OwnerEndState, holds: readonly Hold[]): void {
    const end = new OwnerEnd(state, this.host, this);
    this.add(end, holds);
    // Not at once: the epoll of the previous program is not inherited yet.
    this.host.setTimeout(end.proceed, 0);
  }

  /** Finishes all releases at once, before the state is written or the daemon ends. */
  finish(): void {
    while (this.releases.length > 0) this.slice(Infinity);
  }

  /** Resolves when no end is awaited any more. */
  async allKilled(): Promise<void> {
    if (this.awaited > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
  }

  onGone(end: OwnerEnd): void {
    // A copy: releases change the original.
    this.releases.push({ end, left: [...this.lockspaces.heldBy(end.pid)].values() });
    if (!this.scheduled) this.slice();
    this.notifyIdle();
  }

  onChange(end: OwnerEnd): void {
    this.recorder.endChanged(end);
  }

  onClosing(fd: number): void {
    this.recorder.closing(fd);
  }

  onOverdue(): void {
    this.notifyIdle();
  }

  private close(fd: number): void {
    this.recorder.closing(fd);
    this.host.close(fd);
  }

  private begin(pid: number, holds: readonly Hold[], evidence: Evidence): void {
    const name = holds[0]?.owner.name ?? '';
    const end = new OwnerEnd({ id: this.nextId, pid, name, began: this.host.now(), ...evidence }, this.host, this);
    this.add(end, holds);
    this.recorder.endBegan(end);
    end.proceed();
  }

  private add(end: OwnerEnd, holds: readonly Hold[]): void {
    this.ends.add(end);
    this.nextId = Math.max(this.nextId, end.id + 1);
    for (const hold of holds) hold.end = end;
  }

  /** The owner's holds that no end has begun of. An owner whose pid means nothing here has none: its locks end by release alone. */
  private liveHoldsOf(pid: number): Hold[] {
    const live: Hold[] = [];
    if (pid === 0) return live;
    for (const { holds } of this.lockspaces.heldBy(pid)) {
      for (const hold of holds) {
        const { owner, end } = hold;
        if (owner.pid === pid && owner.isForeign !== true && end === undefined) live.push(hold);
      }
    }
    return live;
  }

  /**
   * Tells whether a hold of the pid of the client's peer may be the peer's, and not a later process's: a child of the peer may have
   * kept the connection for long. Where that is unknown, the answer is no, and the lock stays. Null if the peer cannot be asked for at
   * present.
   */
  private peerTest({ connection: { id, fd, peer }, peerStart }: LockClient): ((hold: Hold) => boolean) | null {
    const { host } = this;
    const startedAt =
      (time: number | null | undefined) =>
      ({ owner: { startTime } }: Hold) =>
        startTime === undefined || startTime === time;
    const known = peerStart ?? peer.startTime;
    if (known !== undefined) return startedAt(known);
    // Before the peer is asked for: it had its pid then if it has not been reaped after.
    const present = host.startTime(peer.pid);
    const pidfd = host.peerPidfd(fd);
    const isReaped = (pidfd >= 0 ? host.signal(pidfd, 0) : pidfd) === -ESRCH || pidfd === -EINVAL;
    if (pidfd >= 0) host.close(pidfd);
    if (isReaped) {
      const later = host.startTime(peer.pid);
      if (later === null) return () => true;
      return ({ owner: { startTime }, client }) =>
        startTime === undefined ? client === id : later !== undefined && startTime !== later;
    }
    if (pidfd >= 0) return startedAt(present);
    if (mayPass(pidfd)) return null;
    // The kernel never tells: the locks then stay until no process has the pid.
    return () => true;
  }

  /** From the owner's own connection, if it is open, else from the pid. Null if that fails at present. */
  private evidenceByPid(pid: number): Evidence | null {
    const socket = this.socketOf(pid);
    if (socket === undefined) return this.evidenceOfAge(pid);
    const pidfd = this.host.peerPidfd(socket);
    if (pidfd >= 0) return { pidfd, isProcess: true };
    // Another process has its pid by now, if any.
    if (pidfd === -ESRCH) return { startTime: NO_PROCESS };
    if (!mayPass(pidfd)) return this.evidenceOfAge(pid);
    log.warn(`Cannot find out which process owner ${pid} is, and try again: ${strerror(pidfd)}`);
    return null;
  }

  /**
   * Evidence for an owner known by its pid only. A process that is older than this daemon has had the pid all the time, so it is the
   * owner. A younger one may be a stranger.
   */
  private evidenceOfAge(pid: number): Evidence {
    const { ownStartTime } = this.host;
    const startTime = this.host.startTime(pid);
    if (typeof startTime === 'number' && ownStartTime !== undefined && startTime <= ownStartTime) return { startTime };
    return {};
  }

  private slice(budget = SLICE_MS): void {
    const until = performance.now() + budget;
    for (;;) {
      const [release] = this.releases;
      if (release === undefined) return;
      const next = release.left.next();
      if (next.done === true) {
        this.releases.shift();
        this.ends.delete(release.end);
        this.recorder.endDone(release.end);
        release.end.wake();
        continue;
      }
      this.lockspaces.releaseEnded(next.value, release.end);
      // Checked after each: with a busy journal a single release may take milliseconds.
      if (performance.now() >= until) break;
    }
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.slice();
    });
  }

  private notifyIdle(): void {
    if (this.awaited > 0) return;
    for (const resolve of this.idle.splice(0)) resolve();
  }
}
