/**
 * Decides whose process is killed: that of an owner whose own connection ends while it holds locks, of one whose locks were lost,
 * and of every owner when the daemon itself ends. owner-end.ts kills it. Once the process is gone, the owner's locks are released in
 * slices: there may be very many, and nobody else waits longer than one slice.
 */
import { constants } from 'node:os';
import { logger } from '../log/log.ts';
import type { Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import { type Hold, type HoldEnd, NO_PROCESS, type OwnerIdentity } from '../lockspace/owner.ts';
import { now } from '../posix/clock.ts';
import { strerror } from '../posix/posix.ts';
import { SLICE_MS } from '../rpc/slices.ts';
import type { LockClient } from './client.ts';
import { findByPid, mayPass, OwnerEnd, startBehind } from './owner-end.ts';
import { isNobodyHere, lifeOf } from './owner-life.ts';
import type { ProcessHost } from './process-host.ts';
import type { DoubtfulPeer, Evidence, Origin, OwnerEndState, WatchedOwner } from './state.ts';

const log = logger('locking.lock_daemon');
const { EINVAL, ENODATA, ESRCH } = constants.errno;

/** Until a failed attempt is repeated, in milliseconds. */
const RETRY_MS = 200;
/** The same for a watched owner, and for a followed one. */
const WATCH_RETRY_MS = 1000;
const FOLLOW_RETRY_MS = 5000;
/** Followed owners that hold nothing any more are forgotten once there are so many more than twice those that do. */
const FOLLOWED_SPARE = 64;

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
  /** {@link OwnerReaper.watched} or {@link OwnerReaper.doubtful} has changed. */
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

/** The pidfd of a process, which its start time identifies. */
interface FollowedOwner {
  readonly startTime: number;
  readonly pidfd: number;
}

/** What is known of the process of a hold's owner. */
interface Identity {
  readonly startTime: number | undefined;
  /** Of its own connection. */
  readonly socket: number | undefined;
  /** That connection has ended. */
  readonly doubtful?: DoubtfulPeer | undefined;
}

/** A process with the holds that end with it. */
interface OwnerProcess extends Identity {
  readonly pid: number;
  readonly holds: Hold[];
}

/** The connection of an owner that has registered itself. */
export interface OwnConnection {
  readonly socket: number;
  /** Of the process that made it. */
  readonly startTime: number | undefined;
}

interface ReaperOptions {
  readonly lockspaces: Lockspaces;
  readonly host: ProcessHost;
  /** An own connection of the process with this pid, if there is one that is open. A former process with the pid may have made it. */
  readonly connectionOf: (pid: number) => OwnConnection | undefined;
  /** The own connection, if it is open, of the process that a hold is of, which no other process with its pid has made. */
  readonly connectionOfHold: (hold: Hold) => OwnConnection | undefined;
}

export class OwnerReaper {
  private readonly lockspaces: Lockspaces;
  private readonly host: ProcessHost;
  private readonly connectionOf: ReaperOptions['connectionOf'];
  private readonly connectionOfHold: ReaperOptions['connectionOfHold'];
  origin: Origin;
  private readonly ends = new Set<OwnerEnd>();
  private nextId = 1;
  recorder = NO_END_RECORDER;
  private readonly watchedOwners = new Set<WatchedOwner>();
  private readonly doubtfulPeers = new Set<DoubtfulPeer>();
  /** Owners of {@link follow} by pid. Not recorded: the next program follows them again. */
  private readonly followed = new Map<number, FollowedOwner>();
  private readonly releases: Release[] = [];
  private scheduled = false;
  private idle: (() => void)[] = [];

  constructor({ lockspaces, host, connectionOf, connectionOfHold }: ReaperOptions) {
    this.lockspaces = lockspaces;
    this.host = host;
    this.connectionOf = connectionOf;
    this.connectionOfHold = connectionOfHold;
    const { ownStartTime: start } = host;
    this.origin = { clients: 0, ...(start === undefined ? {} : { start }) };
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

  /** Those that callers no longer wait for: their processes may live on, signalled or not, and they keep their locks. */
  get overdue(): OwnerEnd[] {
    return [...this.ends].filter(({ isOverdue }) => isOverdue);
  }

  /** The owners that are being ended: a successor goes on with them. */
  get unfinished(): readonly OwnerEnd[] {
    return [...this.ends];
  }

  /** Owners of {@link watch} whose processes have not ended, as far as is known. */
  get watched(): readonly WatchedOwner[] {
    return [...this.watchedOwners];
  }

  /** Processes whose connections have ended, and about which the kernel is asked again. */
  get doubtful(): readonly DoubtfulPeer[] {
    return [...this.doubtfulPeers];
  }

  /** Releases an owner's holds once its process has ended, for owners without a connection. */
  watch(owner: WatchedOwner): void {
    this.watchedOwners.add(owner);
    // Deferred, because the epoll of the previous program image may not be taken over yet.
    this.host.setTimeout(() => {
      this.watchNow(owner);
    }, 0);
  }

  private watchNow(owner: WatchedOwner): void {
    const { pid, pidfd } = owner;
    if (pidfd === undefined) {
      this.findWatched(owner);
      return;
    }
    try {
      this.host.watch(pidfd, () => {
        this.watchEnded(owner, { pidfd, isProcess: true });
      });
    } catch (error) {
      log.warn(`Cannot watch owner ${pid}, and try again: ${(error as Error).message}`);
      this.host.setTimeout(() => {
        this.watchNow(owner);
      }, WATCH_RETRY_MS);
    }
  }

  /** Finds the process of a watched owner by its pid and, if that is known, its start time. */
  private findWatched(owner: WatchedOwner): void {
    const { pid, startTime } = owner;
    const found = findByPid(pid, startTime, this.host);
    if (found.kind === 'gone') this.watchEnded(owner, { startTime: startTime ?? NO_PROCESS });
    else if (found.kind === 'unknown') {
      this.host.setTimeout(() => {
        this.watchNow(owner);
      }, WATCH_RETRY_MS);
    } else {
      const known = { ...owner, pidfd: found.pidfd };
      this.watchedOwners.delete(owner);
      this.watchedOwners.add(known);
      this.recorder.watchedChanged();
      this.watchNow(known);
    }
  }

  private watchEnded(watched: WatchedOwner, evidence: Evidence): void {
    const { pid, startTime, client: last = Infinity } = watched;
    this.watchedOwners.delete(watched);
    const holds = this.liveHoldsOf(pid).filter(({ owner, client }) =>
      owner.startTime === undefined ? client <= last : owner.startTime === (startTime ?? owner.startTime),
    );
    if (holds.length > 0) this.begin(pid, holds, evidence);
    else if (evidence.pidfd !== undefined) this.close(evidence.pidfd);
    this.recorder.watchedChanged();
  }

  /**
   * Releases the holds that others have acquired for an owner once its process has ended. Only where its start time says which
   * process that is, and unless the owner has a connection of its own, whose end is the owner's.
   */
  follow(owner: OwnerIdentity): void {
    const { pid, startTime } = owner;
    if (startTime === undefined || startTime === NO_PROCESS || isNobodyHere(owner)) return;
    const known = this.followed.get(pid);
    if (known?.startTime === startTime || this.isConnected(pid, startTime)) return;
    const found = findByPid(pid, startTime, this.host);
    if (found.kind === 'gone') this.releaseFollowed(pid, startTime, { startTime });
    else if (found.kind === 'unknown' || !this.followBy(pid, startTime, found.pidfd)) {
      this.host.setTimeout(() => {
        if (this.liveHoldsOf(pid).some((hold) => hold.owner.startTime === startTime)) this.follow(owner);
      }, FOLLOW_RETRY_MS);
    }
  }

  /** Whether a process has an own connection, whose end is its own, or may have one. */
  private isConnected(pid: number, startTime: number): boolean {
    const own = this.connectionOf(pid);
    if (own === undefined) return false;
    return (own.startTime ?? this.startOfPeer(pid, own.socket) ?? startTime) === startTime;
  }

  private followBy(pid: number, startTime: number, pidfd: number): boolean {
    try {
      this.host.watch(pidfd, () => {
        if (this.followed.get(pid)?.pidfd === pidfd) this.followed.delete(pid);
        this.releaseFollowed(pid, startTime, { pidfd, isProcess: true });
      });
    } catch (error) {
      this.close(pidfd);
      log.warn(`Cannot watch owner ${pid}, and try again: ${(error as Error).message}`);
      return false;
    }
    this.followed.set(pid, { startTime, pidfd });
    if (this.followed.size > 2 * this.lockspaces.ownerCount + FOLLOWED_SPARE) this.forgetIdle();
    return true;
  }

  /** Stops following owners that have released everything. */
  private forgetIdle(): void {
    for (const [pid, { pidfd }] of this.followed) {
      if (this.lockspaces.heldBy(pid).size > 0) continue;
      this.followed.delete(pid);
      this.close(pidfd);
    }
  }

  private releaseFollowed(pid: number, startTime: number, evidence: Evidence): void {
    const holds = this.liveHoldsOf(pid).filter(({ owner }) => owner.startTime === startTime);
    const [first] = holds;
    if (first !== undefined) {
      log.info(`Owner ${pid} (${first.owner.name}) has ended with ${holds.length} locks held for it`);
      this.begin(pid, holds, evidence);
    } else if (evidence.pidfd !== undefined) this.close(evidence.pidfd);
  }

  /** Follows every owner that holds something, after a restart or a death of the daemon. */
  *followAll(): Generator<undefined> {
    for (const pid of this.lockspaces.ownerPids) {
      for (const { owner } of this.liveHoldsOf(pid)) this.follow(owner);
      yield;
    }
  }

  /** The pids of owners whose holds end with their processes, not with a connection. */
  get pidsWatched(): Set<number> {
    return new Set([...this.followed.keys(), ...this.watched.map(({ pid }) => pid)]);
  }

  /**
   * Releases holds of owners with this pid that are proven dead, and returns their number.
   *
   * @param isLocal the pid is known to be of this pid namespace, also where a C daemon did not hand that on
   */
  releaseDead(pid: number, isWanted: (resource: Resource) => boolean, isLocal: boolean): number {
    const dead: Hold[] = [];
    for (const resource of this.lockspaces.heldBy(pid)) {
      if (!isWanted(resource)) continue;
      for (const hold of resource.holds) {
        if (hold.owner.pid !== pid || hold.end !== undefined) continue;
        const life = lifeOf(hold.owner, this.host);
        if (life === 'dead' || (isLocal && life === 'absent')) dead.push(hold);
      }
    }
    const [first] = dead;
    if (first !== undefined) {
      log.warn(
        `Owner ${pid} (${first.owner.name}) is dead: releasing ${dead.length} of its locks, as an operator has asked`,
      );
      this.begin(pid, dead, { startTime: NO_PROCESS });
    }
    return dead.length;
  }

  /** The connection of `client` has ended; its socket is still open. */
  clientClosed(client: LockClient): void {
    const { owner, isOwnerItself, ownStart: startTime, connection } = client;
    // libvirtd calls on behalf of owners: when it hangs up, their locks stay.
    if (owner === null || !isOwnerItself) return;
    const { id, fd: socket, peer } = connection;
    const ended = {
      pid: peer.pid,
      client: id,
      name: owner.name,
      socket,
      ...(startTime === undefined ? {} : { startTime }),
    };
    this.endPeer(ended, this.liveHoldsOf(peer.pid), () => connection.keepSocket());
  }

  /** Resumes with {@link doubtful} of a previous program image or process. */
  resumePeer(peer: DoubtfulPeer): void {
    this.doubtfulPeers.add(peer);
    // Those that a later process with the pid has acquired through its own connection are not the peer's.
    const holds = (): Hold[] =>
      this.liveHoldsOf(peer.pid).filter(({ client, owner }) => owner.startTime !== undefined || client <= peer.client);
    this.host.setTimeout(() => {
      this.endPeer(peer, holds());
    }, 0);
  }

  /**
   * Kills the peer of a connection that has ended, if it holds any of these, which were held then.
   *
   * @param keepSocket keeps the socket open, unless it was kept for another attempt. The peer sees the end then, which is on record
   *   before: else the peer, if it lives on, would keep its locks after a death of the daemon.
   */
  private endPeer(peer: DoubtfulPeer, live: readonly Hold[], keepSocket?: () => void): void {
    const { pid, client: id, name, socket, startTime } = peer;
    const isDoubtful = live.some(({ owner, client }) => owner.startTime !== undefined || client !== id);
    const isPeers = isDoubtful ? this.peerTest(peer, live) : () => true;
    if (isPeers === null) {
      if (!this.doubtfulPeers.has(peer)) {
        this.doubtfulPeers.add(peer);
        this.recorder.watchedChanged();
      }
      keepSocket?.();
      this.host.setTimeout(() => {
        if (!this.doubtfulPeers.has(peer)) return;
        const still = new Set(this.liveHoldsOf(pid));
        this.endPeer(
          peer,
          live.filter((hold) => still.has(hold)),
        );
      }, RETRY_MS);
      return;
    }
    const holds = live.filter(isPeers);
    if (holds.length > 0) {
      log.info(`Owner ${pid} (${name}) is gone with ${holds.length} locks held`);
      this.begin(pid, holds, { socket, ...(startTime === undefined ? {} : { startTime }) }, keepSocket);
    }
    if (!this.doubtfulPeers.delete(peer)) return;
    this.recorder.watchedChanged();
    if (holds.length === 0) this.close(socket);
  }

  /**
   * Kills the processes of the owners of these holds: their locks are lost, or will not be guarded any more. Other processes that have or
   * had the same pid are left alone.
   */
  end(holds: readonly Hold[]): void {
    for (const process of this.processesOf(holds)) this.endProcess(process, false);
  }

  /** Sends them SIGKILL at once, also those whose end has begun. */
  endAtOnce(holds: readonly Hold[]): void {
    const begun = new Set<HoldEnd | undefined>(holds.map(({ end }) => end));
    for (const end of this.ends) if (begun.has(end)) end.hurry();
    for (const process of this.processesOf(holds)) this.endProcess(process, true);
  }

  /** The processes of those of the holds that no end has begun of, each with all that it holds. */
  private processesOf(holds: readonly Hold[]): Set<OwnerProcess> {
    const wanted = new Set(holds);
    const pids = new Set(holds.map(({ owner }) => owner.pid));
    const processes = new Set<OwnerProcess>();
    for (const pid of pids) {
      for (const process of this.processesWith(pid)) {
        if (process.holds.some((hold) => wanted.has(hold))) processes.add(process);
      }
    }
    return processes;
  }

  /**
   * The processes with this pid, one after the other, that hold something. One may be found as several, if it has connections of which the
   * kernel does not tell the process.
   */
  private processesWith(pid: number): Iterable<OwnerProcess> {
    const processes = new Map<string, OwnerProcess>();
    const identities = new Map<number, Identity>();
    for (const hold of this.liveHoldsOf(pid)) {
      const { owner, client } = hold;
      let identity = owner.startTime === undefined ? identities.get(client) : undefined;
      identity ??= this.identityOf(hold);
      if (owner.startTime === undefined) identities.set(client, identity);
      const { startTime, socket } = identity;
      const key = startTime === undefined ? `socket ${socket}` : `start ${startTime}`;
      const process = processes.get(key);
      if (process === undefined) processes.set(key, { ...identity, pid, holds: [hold] });
      else process.holds.push(hold);
    }
    return processes.values();
  }

  /** What a hold has of its owner's process: never what is of another process that has or had its pid. */
  private identityOf(hold: Hold): Identity {
    const { owner, client } = hold;
    const { pid, startTime } = owner;
    if (startTime !== undefined) return { startTime, socket: undefined };
    // What it has acquired through its own connection has no start time: that of the peer is its own.
    const connection = this.connectionOfHold(hold);
    const doubtful = connection === undefined ? this.doubtfulOf(hold) : undefined;
    const peer = connection ?? doubtful;
    if (peer !== undefined) {
      const { socket } = peer;
      return { startTime: peer.startTime ?? this.startOfPeer(pid, socket), socket, doubtful };
    }
    // A daemon that died has lost the connection.
    const watched = [...this.watchedOwners].filter(
      (known) => known.pid === pid && client <= (known.client ?? Infinity),
    );
    return { startTime: watched.length === 1 ? watched[0]?.startTime : undefined, socket: undefined };
  }

  /** The peer whose own connection, which has ended, a hold was acquired through. */
  private doubtfulOf({ owner: { pid }, client }: Hold): DoubtfulPeer | undefined {
    const { clients } = this.origin;
    const isOf = (peer: DoubtfulPeer): boolean =>
      peer.pid === pid && (client === 0 ? peer.client < clients : peer.client === client);
    const found = [...this.doubtfulPeers].filter(isOf);
    return found.length === 1 ? found[0] : undefined;
  }

  /** When the process started that made a connection, and that has this pid still. */
  private startOfPeer(pid: number, socket: number | undefined): number | undefined {
    const pidfd = socket === undefined ? -ENODATA : this.host.peerPidfd(socket);
    if (pidfd < 0) return undefined;
    const startTime = startBehind(pid, pidfd, this.host);
    this.host.close(pidfd);
    return startTime;
  }

  private endProcess({ pid, startTime, socket, doubtful, holds }: OwnerProcess, isAtOnce: boolean): void {
    const isTaken = doubtful !== undefined && startTime === undefined;
    const evidence = startTime !== undefined ? { startTime } : isTaken ? { socket } : this.evidenceOf(pid, socket);
    if (evidence !== null) {
      const end = this.begin(pid, holds, evidence);
      if (isTaken) this.endTakes(doubtful);
      if (isAtOnce) end.hurry();
      return;
    }
    this.host.setTimeout(() => {
      const left = new Set(this.liveHoldsOf(pid));
      const still = holds.filter((hold) => left.has(hold));
      if (isAtOnce) this.endAtOnce(still);
      else this.end(still);
    }, RETRY_MS);
  }

  /** The socket of a peer is the evidence of its end now. What others have acquired for it ends with its process. */
  private endTakes(peer: DoubtfulPeer): void {
    this.doubtfulPeers.delete(peer);
    this.recorder.watchedChanged();
    for (const { owner } of this.liveHoldsOf(peer.pid)) this.follow(owner);
  }

  /** The process of a hold's owner by a pidfd, which the caller closes; null when it is not known for certain, or gone. */
  processOf(hold: Hold): { readonly pidfd: number; readonly startTime: number } | null {
    const { owner } = hold;
    const { pid } = owner;
    if (isNobodyHere(owner) || pid <= 1 || pid === this.host.ownPid || owner.startTime === NO_PROCESS) return null;
    const identity = this.identityOf(hold);
    const evidence =
      identity.startTime === undefined ? this.evidenceOf(pid, identity.socket) : { startTime: identity.startTime };
    if (evidence === null) return null;
    const pidfd = evidence.pidfd ?? this.pidfdOf(pid, evidence.startTime);
    if (pidfd === null) return null;
    const startTime = startBehind(pid, pidfd, this.host);
    if (startTime !== undefined) return { pidfd, startTime };
    this.host.close(pidfd);
    return null;
  }

  private pidfdOf(pid: number, startTime: number | undefined): number | null {
    if (startTime === undefined || startTime === NO_PROCESS) return null;
    const found = findByPid(pid, startTime, this.host);
    if (found.kind === 'process') return found.pidfd;
    if (found.kind === 'number') this.host.close(found.pidfd);
    return null;
  }

  /** Kills all owners: the daemon itself ends. */
  endAll(): void {
    for (const pid of this.lockspaces.ownerPids) this.end(this.liveHoldsOf(pid));
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

  /** @param onRecord called once its beginning is on record */
  private begin(
    pid: number,
    holds: readonly Hold[],
    evidence: Evidence,
    onRecord = (): unknown => undefined,
  ): OwnerEnd {
    const name = holds[0]?.owner.name ?? '';
    const end = new OwnerEnd({ id: this.nextId, pid, name, began: this.host.now(), ...evidence }, this.host, this);
    this.add(end, holds);
    this.recorder.endBegan(end);
    onRecord();
    end.proceed();
    return end;
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
  private peerTest(
    { pid, client: id, socket, startTime: known }: DoubtfulPeer,
    live: readonly Hold[],
  ): ((hold: Hold) => boolean) | null {
    const { host } = this;
    const startedAt =
      (time: number | null | undefined) =>
      ({ owner: { startTime } }: Hold) =>
        startTime === undefined || startTime === time;
    // Before the peer is asked for: it had its pid then if it has not been reaped after.
    const present = host.startTime(pid);
    if (known !== undefined) {
      if (present === undefined) return null;
      // What a later process has acquired by its own connection has no start time either.
      const isAll = present === known || present === null;
      return ({ owner: { startTime }, client }) =>
        startTime === undefined ? isAll || client === id : startTime === known;
    }
    const pidfd = host.peerPidfd(socket);
    const isReaped = (pidfd >= 0 ? host.signal(pidfd, 0) : pidfd) === -ESRCH || pidfd === -EINVAL;
    if (pidfd >= 0) host.close(pidfd);
    if (isReaped) {
      const later = host.startTime(pid);
      if (later === null) return () => true;
      return ({ owner: { startTime }, client }) =>
        startTime === undefined ? client === id : later !== undefined && startTime !== later;
    }
    // Those with a start time may be its own.
    if (present === undefined && live.some(({ owner }) => owner.startTime !== undefined)) return null;
    if (pidfd >= 0) return startedAt(present);
    if (mayPass(pidfd)) return null;
    // The kernel never reports it: the locks then stay until no process has the pid.
    return () => true;
  }

  /** From the socket of the owner's own connection, if that is open, else from the pid. Null if that fails at present. */
  private evidenceOf(pid: number, socket: number | undefined): Evidence | null {
    if (socket === undefined) return this.evidenceOfAge(pid);
    const pidfd = this.host.peerPidfd(socket);
    if (pidfd >= 0) return { pidfd, isProcess: true };
    // Another process has its pid by now, if any.
    if (pidfd === -ESRCH) return { startTime: NO_PROCESS };
    // Also where the kernel has another error for that: see mayPass.
    if (pidfd === -EINVAL) return {};
    if (!mayPass(pidfd)) return this.evidenceOfAge(pid);
    log.warn(`Cannot find out which process owner ${pid} is, and try again: ${strerror(pidfd)}`);
    return null;
  }

  /**
   * Evidence for an owner known by its pid only. A process that is older than the first that had these locks has had the pid all the time, so
   * it is the owner. A younger one may be a stranger, and so may be one that is older than this process alone, which may have taken over
   * from one that died.
   */
  private evidenceOfAge(pid: number): Evidence {
    const { start } = this.origin;
    const startTime = this.host.startTime(pid);
    if (typeof startTime === 'number' && start !== undefined && startTime <= start) return { startTime };
    return {};
  }

  private slice(budget = SLICE_MS): void {
    const until = now() + budget;
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
      if (now() >= until) break;
    }
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.slice();
    });
  }

  private notifyIdle(): void {
    // The cheap test first: when very many owners end together, each of them calls this.
    if (this.idle.length === 0 || this.awaited > 0) return;
    for (const resolve of this.idle.splice(0)) resolve();
  }
}
