/**
 * SIGUSR1: the same process, a new program. Everything that can fail is tried first or can be taken back, so that a
 * failure leaves the daemon as it was and an error in the log.
 *
 *     1  The state is written to a file, and the successor proves that it can read it. A C daemon could not go on killing owners, so
 *        for it the end of those is awaited. Clients are served.
 *     2  Close-on-exec is cleared on the descriptors that the document names. Clients are served.
 *     3  The daemon accepts no more connections. Between two rounds of the poller no request is in progress: only messages half
 *        received and replies half sent are left, which travel in the document. A C daemon would lose those, so for it they are
 *        awaited, up to a second.
 *     4  All signals are blocked; the mask survives exec, and the successor releases them when it serves. The state is written again
 *        if it has changed, close-on-exec follows, and the program is executed, unless a signal that ends the daemon is pending.
 *
 * A SIGUSR1 that comes while this runs is served after a failure; after a success the new program is newer than it.
 */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import type { Daemon } from '../daemon/daemon.ts';
import { own as ownKind, ownState } from '../daemon/state.ts';
import { logger } from '../log/log.ts';
import { descriptorLimits } from '../proc/limits.ts';
import { now } from '../posix/clock.ts';
import { inodeKey, lastStat, posix, strerror } from '../posix/posix.ts';
import type { Connection } from '../rpc/connection.ts';
import { knowsOfdLocks } from './answers.ts';
import { findChanged } from './build.ts';
import { descriptorsIn } from '../state/state.ts';
import { captureState } from './capture.ts';
import { CSuccessor } from './c-successor.ts';
import {
  closeOnExecInTheEnd,
  prepareCloseOnExec,
  setCloseOnExec,
  setCloseOnExecInSlices,
  setIfOpen,
  STANDARD_STREAMS,
} from './close-on-exec.ts';
import { heapLimit } from '../lockspace/budget.ts';
import { inSlices, turn } from '../rpc/slices.ts';
import { MAX_DOCUMENT, formatPieces } from './document.ts';
import { ResourcePieces } from './resource-pieces.ts';
import type { LockKinds } from './lock-kinds.ts';
import { findLoss } from './rehearse.ts';
import type { Survival } from './survival.ts';
import {
  publishStateFile,
  refuseHanging,
  refusePlanted,
  removeStateFile,
  StateFileError,
  writeStateFile,
  writeStateFileInSlices,
} from './state-file.ts';
import { countBelow, lackOfRoom, LAUNCHER_DESCRIPTORS, RUNTIME_DESCRIPTORS } from './room.ts';
import { proveSuccessor, timeFor, type OwnSuccessor, UnfitSuccessor } from './successor.ts';

const log = logger('locking.lock_daemon');

const {
  errno: { EINTR },
  signals: { SIGUSR1 },
} = constants;

/** How long messages and replies may take to complete before a C daemon takes over, in milliseconds. */
const PENDING_MS = 1000;
const PENDING_CHECK_MS = 5;

/** A document of this size fits into any heap that the daemon runs in. */
const SIZE_FREE = 4 * 1024 * 1024;
/** The part of the heap that pending messages may take, which are a third larger in the document. */
const PENDING_SHARE = 1 / 8;
/** How long the service manager is waited for before the next program is executed, in milliseconds. Clients are served. */
const FLUSH_MS = 12_000;
/** How long storage helpers may take to hand over their files, in milliseconds. */
const STORAGE_MS = 2000;
/** The same for a daemon that is about to end, with which such files would lose their locks. systemd kills it after 90 s. */
const LAST_STORAGE_MS = 30_000;

interface ReexecOptions {
  readonly daemon: Daemon;
  readonly lockKinds: LockKinds;
  /** Null where nothing can outlive the daemon's death. */
  readonly survival: Pick<Survival, 'emptyForOther' | 'refill' | 'flush'> | null;
  /** The program to execute: an absolute path, its links unresolved, as a swap replaces the file there. */
  readonly program: ByteString;
  readonly args: readonly ByteString[];
  readonly stateFile: ByteString;
  /** The daemon is shutting down: there is nothing left to hand over. */
  isEnding(): boolean;
  /** The successor's. */
  environment(): Readonly<Record<ByteString, ByteString | undefined>>;
  /** Whether the service manager has been told all that it is to know before a program is executed that does not know of it. */
  isTold(): boolean;
  /** The program was not executed, and service goes on. */
  refused(reason: ByteString): void;
}

export class Reexec {
  private readonly options: ReexecOptions;
  private running = false;
  private again = false;
  /** See {@link stop}. */
  private isStopped = false;
  /** The attempts in progress. */
  private attempts = Promise.resolve();
  /** An attempt has begun to change what must be as before when the daemon does anything else. */
  private isChanging = false;
  /** The text of resources, from the proof. */
  private pieces: ResourcePieces | undefined;

  constructor(options: ReexecOptions) {
    this.options = options;
  }

  get isRunning(): boolean {
    return this.running;
  }

  /** Executes the program again. Never throws; resolves only if that failed. */
  async request(): Promise<void> {
    if (this.running) {
      this.again = true;
      return;
    }
    if (this.isStopped) return;
    this.running = true;
    this.attempts = this.tryAll();
    await this.attempts;
  }

  /**
   * Executes nothing from now on, and undoes what an attempt in progress has changed: the process is to end, and the next program would not
   * know that it was told so.
   */
  async stop(): Promise<void> {
    this.isStopped = true;
    if (this.isChanging) await this.attempts;
    const { remoteFiles } = this.options.daemon;
    if (remoteFiles.hasTaken) await remoteFiles.giveBack(LAST_STORAGE_MS);
    this.abandon();
  }

  /** Whether an attempt must not go on. */
  private mustStop(): boolean {
    return this.isStopped || this.options.isEnding();
  }

  private async tryAll(): Promise<void> {
    for (;;) {
      this.again = false;
      try {
        await this.attempt();
      } catch (error) {
        if (!this.mustStop()) this.report(error);
      }
      this.pieces?.end();
      this.pieces = undefined;
      if (this.isStopped) this.again = false;
      await this.returnFiles();
      // The compiler takes it for false, but requests come in while an attempt waits.
      if (!(this.again as boolean) || this.mustStop()) break;
    }
    this.isChanging = false;
    this.running = false;
  }

  private report(error: unknown): void {
    const known =
      error instanceof UnfitSuccessor ||
      error instanceof StateFileError ||
      error instanceof ExecError ||
      isSystemError(error);
    const reason = error instanceof Error ? (known ? error.message : (error.stack ?? error.message)) : String(error);
    log.error(`Unable to re-execute, service goes on: ${reason}`);
    this.options.refused(known ? reason : String(error));
  }

  /** Gives the files that a program without helpers was to take over back to these, unless that is tried again. */
  private async returnFiles(): Promise<void> {
    const { daemon, lockKinds } = this.options;
    if (this.again || this.options.isEnding() || !daemon.remoteFiles.hasTaken) return;
    await daemon.remoteFiles.giveBack(STORAGE_MS);
    // Some may have stayed.
    await lockKinds.turnToOfd();
  }

  /** The daemon ends: removes the file of an attempt in progress. */
  abandon(): void {
    if (this.running) removeStateFile(`${this.options.stateFile}.new`);
  }

  private async attempt(): Promise<void> {
    const { daemon, program, args, stateFile } = this.options;
    const candidate = `${stateFile}.new`;
    await refuseHanging(stateFile);
    refusePlanted(stateFile);
    const own = ownState(daemon);
    const document: Buffer[] = [];
    const descriptors = new Set<number>();
    this.pieces = new ResourcePieces(daemon);
    await inSlices(formatPieces(captureState(daemon, own, this.pieces), descriptors), (piece) => document.push(piece));
    checkSize(document, daemon);
    await writeStateFileInSlices(candidate, document);
    try {
      const found = await proveSuccessor(program, candidate, timeFor(document));
      if (found.kind === 'c' || found.report?.etcd !== true) refuseEtcd(daemon);
      // The other program knows no helpers, and takes over descriptors alone.
      const knowsHelpers = found.kind !== 'c' && found.report?.storage === true;
      if (this.mustStop()) return;
      this.isChanging = true;
      const frozen = knowsHelpers ? undefined : await daemon.remoteFiles.findFrozen(STORAGE_MS);
      if (frozen !== undefined) throw new UnfitSuccessor(frozen);
      if (!knowsHelpers && needsHelpers(daemon)) {
        const refusal = await daemon.remoteFiles.takeAll(STORAGE_MS);
        if (refusal !== undefined) throw new UnfitSuccessor(refusal);
        this.again = true;
        return;
      }
      if (found.kind === 'own') {
        this.refuseLackOfRoom(descriptors);
        await this.refuseLoss(found);
      }
      const successor = found.kind === 'own' ? found : new CSuccessor(found.version, daemon);
      if (successor instanceof CSuccessor) {
        await successor.prove({ args, stateFile, document: candidate, pidFile: keyOf(own.pidFile) }, document, own);
        warnOfEtcd(daemon);
      }
      if (this.mustStop()) return;
      // Not before: this loads fs-ext, whose files the proof has just compared with the build.
      prepareCloseOnExec();
      await this.withLocksFor(successor, async () =>
        this.keepingOpen(descriptors, async (kept) => this.exchange(successor, candidate, document, kept)),
      );
    } finally {
      removeStateFile(candidate);
    }
  }

  /** @throws UnfitSuccessor when the successor would lose a held lock or a connected client */
  private async refuseLoss({ report }: OwnSuccessor): Promise<void> {
    const { daemon, program } = this.options;
    const loss = await findLoss(daemon, report?.losses ?? []);
    if (loss !== undefined) throw new UnfitSuccessor(`${program} ${loss}`);
  }

  /**
   * @param descriptors that outlive exec
   * @throws UnfitSuccessor when our runtime would not find as many free ones as it needs
   */
  private refuseLackOfRoom(descriptors: ReadonlySet<number>): void {
    const { daemon } = this.options;
    const { soft, hard } = descriptorLimits('self');
    // Most often there are so many that they need not be counted.
    if (soft - daemon.load > 2 * RUNTIME_DESCRIPTORS) return;
    const kept = new Set([...STANDARD_STREAMS, ...descriptors]);
    const refuseLackBelow = (what: string, limit: number, needed: number): void => {
      const lack = lackOfRoom(what, { pid: process.pid, limit, used: countBelow(limit, kept), needed, hard });
      if (lack !== undefined) throw new UnfitSuccessor(lack);
    };
    refuseLackBelow('the runtime', hard, RUNTIME_DESCRIPTORS);
    refuseLackBelow("the runtime's start", soft, LAUNCHER_DESCRIPTORS);
  }

  /** Has all locks be of a kind that the successor knows while `exchange` runs. @throws UnfitSuccessor when that cannot be */
  private async withLocksFor(successor: OwnSuccessor | CSuccessor, exchange: () => Promise<void>): Promise<void> {
    const { lockKinds, survival } = this.options;
    if (!(successor instanceof CSuccessor) && knowsOfdLocks(successor)) {
      // The successor does not know of messages to the manager that are still to be sent.
      if ((await survival?.flush(FLUSH_MS)) === false)
        throw new UnfitSuccessor(
          'the service manager takes no descriptors at present, and the next program could not send them',
        );
      if (!this.mustStop()) await exchange();
      return;
    }
    try {
      // The manager would pass what is left there to its next process, which would take over locks that are not the daemon's any more.
      const refusal = (await lockKinds.turnToPosix()) ?? (await survival?.emptyForOther());
      if (refusal !== undefined) throw new UnfitSuccessor(refusal);
      // With the watchdog on it would kill that program.
      if (!this.options.isTold()) throw new UnfitSuccessor('the service manager takes no messages at present');
      await exchange();
    } finally {
      survival?.refill();
      if (!this.options.isEnding()) await lockKinds.turnBack();
    }
  }

  /**
   * Has the descriptors that the document for the proof names outlive exec while `exchange` runs, and no longer. Nothing is spawned
   * during this: it would have them all open.
   */
  private async keepingOpen(descriptors: Set<number>, exchange: (kept: Kept) => Promise<void>): Promise<void> {
    const { daemon } = this.options;
    const connections: Iterable<Connection> = daemon.lockServer.adoptAll().values();
    const clients = [...connections].filter(({ fd }) => descriptors.has(fd));
    try {
      // Most of them now, while clients are served.
      await setCloseOnExecInSlices(descriptors, false);
      if (!this.mustStop()) await exchange({ descriptors, clients });
    } finally {
      if (!this.options.isEnding()) await closeOnExecInTheEnd(() => descriptors);
    }
  }

  /** Returns when the program was not executed, and service goes on. */
  private async exchange(
    successor: OwnSuccessor | CSuccessor,
    candidate: string,
    document: readonly Buffer[],
    kept: Kept,
  ): Promise<void> {
    const { daemon } = this.options;
    // What is not mapped any more, execve need not unmap while clients wait.
    posix.trimMemory();
    daemon.suspend();
    try {
      if (successor instanceof CSuccessor) await this.waitForPending(successor);
      if (!this.mustStop() && (await this.lastRequest(successor))) {
        this.handOver(successor, candidate, document, kept);
      }
    } finally {
      if (successor instanceof CSuccessor) successor.undo();
      posix.releaseSignals();
      if (!this.options.isEnding()) daemon.resume();
    }
  }

  /** Waits until no message is half received and no reply half sent, but not for long. */
  private async waitForPending({ version }: CSuccessor): Promise<void> {
    const { daemon } = this.options;
    const until = now() + PENDING_MS;
    while (daemon.pendingCount() > 0 && now() < until) {
      await new Promise((resolve) => setTimeout(resolve, PENDING_CHECK_MS));
    }
    const left = daemon.pendingCount();
    if (left > 0) log.warn(`${left} clients have messages under way that libvirt ${version} will lose`);
  }

  /**
   * A SIGUSR1 that came during the proof may mean a newer program at the path, so it must not be lost with this one. From here on
   * signals are blocked; one that libuv has caught already is delivered within two turns of its loop, and a SIGUSR1 is sent again, for
   * the successor. A C daemon would not get it: its proof is repeated, as it is when an owner has to be killed.
   *
   * @returns whether to go on
   */
  private async lastRequest(successor: OwnSuccessor | CSuccessor): Promise<boolean> {
    posix.blockSignals();
    for (let turns = 0; turns < 2; turns++) await turn();
    if (this.mustStop()) return false;
    if (!(successor instanceof CSuccessor)) {
      if (this.again) process.kill(process.pid, SIGUSR1);
      this.again = false;
    } else if (this.options.daemon.ownerReaper.awaited > 0) this.again = true;
    return !this.again;
  }

  /** Returns only if a signal that ends the daemon is pending. */
  private handOver(
    successor: OwnSuccessor | CSuccessor,
    candidate: string,
    proven: readonly Buffer[],
    kept: Kept,
  ): void {
    const { daemon, stateFile } = this.options;
    daemon.makeWaitedCalls();
    // The successor would not know of releases in progress.
    daemon.ownerReaper.finish();
    daemon.flushEvents();
    const own = ownState(daemon);
    const descriptors = new Set(STANDARD_STREAMS);
    if (successor instanceof CSuccessor) {
      // It may have changed since it was proven, which makes no difference to another of our kind.
      writeStateFile(candidate, [successor.lastDocument(own, descriptors)]);
      // It has no use for the others of ours.
      for (const fd of descriptorsIn(ownKind, { ...own, pidFile: undefined })) descriptors.delete(fd);
    } else {
      const document = [...formatPieces(captureState(daemon, own, this.pieces), descriptors)];
      this.refuseLackOfRoom(descriptors);
      // Messages may have come since the proof, and be more than the successor can read.
      checkSize(document, daemon);
      if (!areEqual(document, proven)) writeStateFile(candidate, document);
      refuseChanged(successor);
    }
    publishStateFile(candidate, stateFile);
    try {
      passOn(descriptors, kept);
      this.execute(successor);
    } finally {
      // Also when fs-ext cannot be loaded any more, because its files were taken away.
      removeStateFile(stateFile);
    }
  }

  private execute(successor: OwnSuccessor | CSuccessor): void {
    const { program, args } = this.options;
    const isOwn = !(successor instanceof CSuccessor);
    // Our own kind has reported what its launcher executes: the launcher's shell would cost the waiting clients milliseconds.
    const words = [...(isOwn ? successor.command : []), program, ...args];
    const [file = program] = words;
    const variables = Object.entries(this.options.environment());
    const environment = variables.map(([name, value]) => `${name}=${value ?? ''}`);
    const status = posix.execve([file], words, environment, !isOwn);
    if (status !== -EINTR) throw new ExecError(`cannot execute ${file}: ${strerror(status)}`);
  }
}

/** Descriptors whose close-on-exec was cleared. */
interface Kept {
  /** A number may be that of another file by now. */
  readonly descriptors: Set<number>;
  /** The clients among them. */
  readonly clients: readonly Connection[];
}

/** Has exactly these descriptors outlive exec. */
function passOn(descriptors: ReadonlySet<number>, { descriptors: kept, clients }: Kept): void {
  for (const fd of kept) if (!descriptors.has(fd)) setIfOpen(fd, true);
  const rest = new Set(descriptors);
  // The socket of a client that has been connected since then is the same.
  for (const { fd, isOpen } of clients) if (isOpen) rest.delete(fd);
  for (const fd of rest) kept.add(fd);
  setCloseOnExec(rest, false);
}

/** Locks that a successor does not know would not be held any more. @throws UnfitSuccessor */
function refuseEtcd({ etcd }: Daemon): void {
  if (etcd === null || etcd.engine.count === 0) return;
  const { count } = etcd.engine;
  throw new UnfitSuccessor(
    `${count} ${count === 1 ? 'lock is' : 'locks are'} held in etcd, of which the other program knows nothing: ${etcd.engine.describeLocks(20)}`,
  );
}

/** Nothing is lost, but hosts would exclude each other no more. */
function warnOfEtcd({ etcd }: Daemon): void {
  if (etcd === null) return;
  const directories = etcd.engine.settings.lockspaces.map((path) => `'${path}'`).join(', ');
  log.warn(
    `The other program keeps lockspaces below ${directories} in files of this host, not in etcd: other hosts' locks there do not concern its guests, nor theirs other hosts`,
  );
}

/** Whether storage helpers keep files, or any file is being released. */
function needsHelpers({ lockspaces }: Daemon): boolean {
  for (const { file } of lockspaces.resources()) if (file.remote !== null || file.release !== null) return true;
  return false;
}

function keyOf(fd: number | undefined): string | null {
  return fd !== undefined && posix.fstatInode(fd) === 0 ? inodeKey(lastStat()) : null;
}

/**
 * A successor can always read all locks, with room left: see lockspace/budget.ts. Pending messages may need more than that room, also
 * after the proof.
 *
 * @throws UnfitSuccessor
 */
function checkSize(document: readonly Buffer[], daemon: Daemon): void {
  const size = document.reduce((sum, { length }) => sum + length, 0);
  // heapLimit() loads a module of the runtime, while clients wait.
  if (size <= SIZE_FREE) return;
  if (size > MAX_DOCUMENT) {
    throw new UnfitSuccessor(`the state takes ${size} bytes, and at most ${MAX_DOCUMENT} are read`);
  }
  const { pendingBytes } = daemon;
  const most = heapLimit() * PENDING_SHARE;
  if (pendingBytes > most) {
    throw new UnfitSuccessor(`messages under way take ${pendingBytes} bytes, and at most ${most} are read`);
  }
}

/** Whether two documents consist of equal pieces. If the same text is cut differently, it is only written once more. */
function areEqual(one: readonly Buffer[], other: readonly Buffer[]): boolean {
  return (
    one.length === other.length && one.every((piece, index) => piece === other[index] || other[index]?.equals(piece))
  );
}

/** An upgrade may have begun since the proof. @throws UnfitSuccessor */
function refuseChanged({ report }: OwnSuccessor): void {
  const changed = findChanged(report?.identities ?? {});
  if (changed !== undefined) throw new UnfitSuccessor(`${changed} has changed since it was proven`);
}

class ExecError extends Error {}

/** A failed system call is no defect: the log needs no stack. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).errno === 'number';
}
