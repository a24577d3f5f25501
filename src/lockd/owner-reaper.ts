/**
 * Ends owners: those whose own connection has ended while they held locks, those whose locks were lost, and all of them when
 * the daemon itself ends. What an owner holds is released once its process is gone, in slices, for it may be very much, and
 * nobody else waits longer than one of them.
 */
import os from 'node:os';
import { logger } from '../log/log.ts';
import type { Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import { type Hold, NO_PROCESS } from '../lockspace/owner.ts';
import { strerror } from '../posix/posix.ts';
import type { LockClient } from './client.ts';
import { OwnerEnd } from './owner-end.ts';
import { mayPass } from './owner-process.ts';
import type { ProcessHost } from './process-host.ts';
import type { Evidence, OwnerEndState, WatchedOwner } from './state.ts';

const log = logger('locking.lock_daemon');
const { ESRCH } = os.constants.errno;

/** How long a slice takes, in milliseconds. */
const SLICE_MS = 5;
/** When what was not possible is tried again, in milliseconds. */
const RETRY_MS = 200;

/** What an owner that is gone held, while it is being released. */
interface Release {
  readonly end: OwnerEnd;
  readonly left: Iterator<Resource>;
}

/** Writes down what changes, before anything is done of it. Nothing may be thrown. */
export interface EndRecorder {
  /** The end of an owner has begun, and is that of some of its holds. */
  endBegan(end: OwnerEnd): void;
  endChanged(end: OwnerEnd): void;
  /** What its owner held is released. */
  endDone(end: OwnerEnd): void;
  /** There are other {@link OwnerReaper.watched} owners. */
  watchedChanged(): void;
  /** A descriptor that an end had is about to be closed. */
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

export interface ReaperOptions {
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
  /** By their pidfds. */
  private readonly watchedOwners = new Map<number, WatchedOwner>();
  private readonly releases: Release[] = [];
  private scheduled = false;
  private idle: (() => void)[] = [];

  constructor({ lockspaces, host, socketOf }: ReaperOptions) {
    this.lockspaces = lockspaces;
    this.host = host;
    this.socketOf = socketOf;
  }

  /** How many owners are being ended. */
  get count(): number {
    return this.ends.size;
  }

  /** Those for whom there is still something to wait: see {@link OwnerEnd.isAwaited}. */
  get awaited(): number {
    let count = 0;
    for (const end of this.ends) if (end.isAwaited) count++;
    return count;
  }

  /** Owners that could not be ended, and keep their locks. */
  get overdue(): OwnerEnd[] {
    return [...this.ends].filter(({ isOverdue }) => isOverdue);
  }

  /** Who is being ended: what a successor goes on with. */
  get unfinished(): readonly OwnerEnd[] {
    return [...this.ends];
  }

  /** Owners of {@link watch} whose processes are not gone yet. */
  get watched(): readonly WatchedOwner[] {
    return [...this.watchedOwners.values()];
  }

  /** Releases what an owner holds once its process is gone: it has no connection that would tell. */
  watch(pid: number, pidfd: number): void {
    this.watchedOwners.set(pidfd, { pid, pidfd });
    // Not at once: the epoll of the program before this one may not be taken over yet.
    this.host.setTimeout(() => {
      this.host.watch(pidfd, () => {
        this.watchedOwners.delete(pidfd);
        const holds = this.liveHoldsOf(pid);
        if (holds.length > 0) this.begin(pid, holds, { pidfd, isProcess: true });
        else {
          this.recorder.closing(pidfd);
          this.host.close(pidfd);
        }
        this.recorder.watchedChanged();
      });
    }, 0);
  }

  /** The process of an owner, which is known by its start, is gone: what it holds is released. */
  gone(pid: number, startTime: number): void {
    const holds = this.liveHoldsOf(pid);
    if (holds.length > 0) this.begin(pid, holds, { startTime });
  }

  /** The connection of `client` is gone, but for its socket. */
  clientClosed(client: LockClient): void {
    const { owner, connection, peerStart } = client;
    // libvirtd calls for owners that are not itself: when it hangs up, their locks stay.
    if (owner === null || !client.isOwnerItself) return;
    // Of a later process that has its pid, nothing is known by this.
    const holds = this.liveHoldsOf(owner.pid).filter(
      ({ owner: { startTime } }) => startTime === undefined || peerStart === undefined || startTime === peerStart,
    );
    if (holds.length === 0) return;
    log.info(`Owner ${owner.pid} (${owner.name}) is gone with ${holds.length} locks held`);
    const { startTime } = connection.peer;
    this.begin(owner.pid, holds, {
      socket: connection.keepSocket(),
      ...(startTime === undefined ? {} : { startTime }),
    });
  }

  /** Ends the owner with this pid, who has not ended by itself: its locks are lost, or will not be guarded any more. */
  end(pid: number): void {
    // Holds of one pid may be those of several processes, one after the other.
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

  /** Ends all owners: the daemon itself ends. */
  endAll(): void {
    const pids = new Set<number>();
    for (const { holds } of this.lockspaces.resources()) for (const { owner } of holds) pids.add(owner.pid);
    for (const pid of pids) this.end(pid);
  }

  /** Goes on with an end that was begun before a re-execution; `holds` are those of its owner that were held then. */
  resume(state: OwnerEndState, holds: readonly Hold[]): void {
    const end = new OwnerEnd(state, this.host, this);
    this.add(end, holds);
    // Not at once: the epoll of the program before this one is not taken over yet.
    this.host.setTimeout(end.look, 0);
  }

  /** Releases at once all that slices were left for: before the state is written or the daemon ends. */
  finish(): void {
    while (this.releases.length > 0) this.slice(Infinity);
  }

  /** Resolves when nobody has to be waited for any more. */
  async allKilled(): Promise<void> {
    if (this.awaited > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
  }

  /** The process of this owner is gone. */
  onGone(end: OwnerEnd): void {
    // A copy: what is released is taken out of it.
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

  /** Nobody waits for this owner any more. */
  onOverdue(): void {
    this.notifyIdle();
  }

  private begin(pid: number, holds: readonly Hold[], evidence: Evidence): void {
    const name = holds[0]?.owner.name ?? '';
    const end = new OwnerEnd({ id: this.nextId, pid, name, began: this.host.now(), ...evidence }, this.host, this);
    this.add(end, holds);
    this.recorder.endBegan(end);
    end.look();
  }

  private add(end: OwnerEnd, holds: readonly Hold[]): void {
    this.ends.add(end);
    this.nextId = Math.max(this.nextId, end.id + 1);
    for (const hold of holds) hold.end = end;
  }

  /** Its holds that no end has begun of. Those of an owner whose number means nothing here end by a release alone. */
  private liveHoldsOf(pid: number): Hold[] {
    const live: Hold[] = [];
    if (pid === 0) return live;
    for (const { holds } of this.lockspaces.heldBy(pid)) {
      for (const hold of holds) {
        if (hold.owner.pid === pid && hold.end === undefined && hold.owner.isForeign !== true) live.push(hold);
      }
    }
    return live;
  }

  /** By the owner's own connection, if it is open, else by the pid alone. Null when that cannot be asked at present. */
  private evidenceByPid(pid: number): Evidence | null {
    const socket = this.socketOf(pid);
    if (socket === undefined) return this.evidenceOfAge(pid);
    const pidfd = this.host.peerPidfd(socket);
    if (pidfd >= 0) return { pidfd, isProcess: true };
    // Whoever has its pid now is somebody else.
    if (pidfd === -ESRCH) return { startTime: NO_PROCESS };
    if (!mayPass(pidfd)) return this.evidenceOfAge(pid);
    log.warn(`Cannot find out which process owner ${pid} is, and try again: ${strerror(pidfd)}`);
    return null;
  }

  /**
   * Of an owner of whom only the pid is known. A process that is older than this daemon has had its pid ever since, so it is
   * the one that was meant. A younger one may be a stranger.
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
      // At every one: on a disk with a busy journal a single release may take milliseconds.
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
