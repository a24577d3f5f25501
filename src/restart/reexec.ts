/**
 * SIGUSR1: the same process, a new program. Everything that can fail is tried first or can be taken back, so that a
 * failure leaves the daemon as it was and an error in the log.
 *
 *     1  the state is written to a file and the successor proves that it can read it; service goes on meanwhile
 *     2  nobody is accepted any more. Between two rounds of the poller no request is in progress: what is left are
 *        messages half received and replies half sent, which travel in the document. A C daemon would lose those,
 *        so for that one they are awaited, up to a second, and so is the end of owners that are being killed.
 *     3  all signals are held (the mask survives exec, and the successor releases them when it serves), the state is written if it
 *        changed, close-on-exec is cleared on what the document names, and the program is executed, unless a signal waits that
 *        ends the daemon
 *
 * A request that comes while this runs is served when it failed; when it succeeds the new program is newer than it.
 */
import { constants } from 'node:os';
import { setImmediate as turn } from 'node:timers/promises';
import type { ByteString } from '../../xdr/codec.ts';
import type { Daemon } from '../daemon/daemon.ts';
import { logger } from '../log/log.ts';
import { descriptorLimits } from '../proc/limits.ts';
import { inodeKey, lastStat, posix, strerror } from '../posix/posix.ts';
import type { Connection } from '../rpc/connection.ts';
import { knowsOfdLocks } from './answer.ts';
import { findChanged } from './build.ts';
import { descriptorsIn } from '../state/state.ts';
import { captureState } from './capture.ts';
import { CSuccessor } from './c-successor.ts';
import {
  closeOnExecInTheEnd,
  prepareCloseOnExec,
  setCloseOnExec,
  setCloseOnExecInSlices,
  STANDARD_STREAMS,
} from './close-on-exec.ts';
import { blockSignals, releaseSignals, SIGUSR1 } from './signals.ts';
import { heapLimit } from '../lockspace/budget.ts';
import { descriptorsOf, DOCUMENT_MAX, formatPieces, ownState, type OwnState } from './document.ts';
import { ResourcePieces } from './resource-pieces.ts';
import type { LockKinds } from './lock-kinds.ts';
import { findLoss } from './losses.ts';
import { inSlices } from './slices.ts';
import type { Survival } from './survival.ts';
import {
  publishStateFile,
  refusePlanted,
  removeStateFile,
  StateFileError,
  writeStateFile,
  writeStateFileInSlices,
} from './state-file.ts';
import { countBelow, lackOfRoom, LAUNCHER_DESCRIPTORS, RUNTIME_DESCRIPTORS } from './room.ts';
import { limitFor, proveSuccessor, type OwnSuccessor, UnfitSuccessor } from './successor.ts';

const log = logger('locking.lock_daemon');

const { EINTR } = constants.errno;

/** How long messages and replies may take to complete before a C daemon takes over, in milliseconds. */
const PENDING_MS = 1000;
const PENDING_CHECK_MS = 5;

/** Any heap that the daemon runs in at all takes a document of so many bytes. */
const SIZE_FREE = 4 * 1024 * 1024;
/** The part of the heap that messages under way may take, which are a third larger in the document. */
const PENDING_SHARE = 1 / 8;

export interface ReexecOptions {
  readonly daemon: Daemon;
  readonly lockKinds: LockKinds;
  /** Null where nothing can outlive the daemon's death. */
  readonly survival: Pick<Survival, 'emptyForOther' | 'refill'> | null;
  /** The program to execute, an absolute path whose links are not resolved: who swaps programs changes what is there. */
  readonly program: ByteString;
  readonly args: readonly ByteString[];
  readonly stateFile: ByteString;
  /** The daemon is shutting down: there is nothing to hand over any more. */
  isEnding(): boolean;
  /** The successor's. */
  environment(): Readonly<Record<ByteString, ByteString | undefined>>;
  /** What only this implementation keeps, as it is now. */
  ownState(): OwnState;
  /** The program was not executed, and service goes on. */
  refused(reason: ByteString): void;
}

export class Reexec {
  private readonly options: ReexecOptions;
  private running = false;
  private again = false;
  /** What resources were described as for the proof. */
  private pieces: ResourcePieces | undefined;

  constructor(options: ReexecOptions) {
    this.options = options;
  }

  get isRunning(): boolean {
    return this.running;
  }

  /** Executes the program anew. Never throws; returns to its caller only when that failed. */
  async request(): Promise<void> {
    if (this.running) {
      this.again = true;
      return;
    }
    this.running = true;
    for (;;) {
      this.again = false;
      try {
        await this.attempt();
      } catch (error) {
        const known =
          error instanceof UnfitSuccessor ||
          error instanceof StateFileError ||
          error instanceof ExecError ||
          isSystemError(error);
        const reason =
          error instanceof Error ? (known ? error.message : (error.stack ?? error.message)) : String(error);
        log.error(`Unable to re-execute, service goes on: ${reason}`);
        this.options.refused(known ? reason : String(error));
      }
      this.pieces?.end();
      this.pieces = undefined;
      // Typed as false by the assignment above, but requests come in while an attempt waits.
      if (!(this.again as boolean)) break;
    }
    this.running = false;
  }

  /** Leaves nothing behind of an attempt under way: the daemon ends. */
  abandon(): void {
    if (this.running) removeStateFile(`${this.options.stateFile}.new`);
  }

  private async attempt(): Promise<void> {
    const { daemon, program, args, stateFile } = this.options;
    const candidate = `${stateFile}.new`;
    refusePlanted(stateFile);
    const own = this.options.ownState();
    const document: Buffer[] = [];
    const descriptors = new Set<number>();
    this.pieces = new ResourcePieces(daemon);
    await inSlices(formatPieces(captureState(daemon, own, this.pieces), descriptors), (piece) => document.push(piece));
    checkSize(document, daemon);
    await writeStateFileInSlices(candidate, document);
    try {
      const found = await proveSuccessor(program, candidate, limitFor(document));
      if (found.kind === 'own') {
        this.refuseLackOfRoom(descriptors);
        await this.refuseLoss(found);
      }
      const successor = found.kind === 'own' ? found : new CSuccessor(found.version, daemon);
      if (successor instanceof CSuccessor) {
        await successor.prove({ args, stateFile, document: candidate, pidFile: keyOf(own.pidFile) }, document, own);
      }
      if (this.options.isEnding()) return;
      // Not before: it is loaded into this process, and only now is known to be what it should be.
      prepareCloseOnExec();
      await this.withLocksFor(successor, async () => {
        await this.keepingDescriptors(async (clients) => this.exchange(successor, candidate, document, clients));
      });
    } finally {
      removeStateFile(candidate);
    }
  }

  /** @throws UnfitSuccessor when it would take something for lost that is held, or somebody for gone who is connected */
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
    // Most often there is so much that they need not be counted.
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
      await exchange();
      return;
    }
    try {
      // Nothing may be left there: whoever came next would find it, and take over what is not the daemon's any more.
      const refusal = (await lockKinds.turnToPosix()) ?? (await survival?.emptyForOther());
      if (refusal !== undefined) throw new UnfitSuccessor(refusal);
      await exchange();
    } finally {
      survival?.refill();
      if (!this.options.isEnding()) await lockKinds.turnBack();
    }
  }

  /**
   * Lets what the document names outlive exec while `exchange` runs, and no longer. Nothing is spawned meanwhile: that would have
   * it all open. What comes during this is closed on exec until its turn.
   *
   * @param exchange is told of the clients whose sockets outlive exec
   */
  private async keepingDescriptors(exchange: (clients: ReadonlySet<Connection>) => Promise<void>): Promise<void> {
    const { daemon } = this.options;
    const clients = new Set<Connection>(daemon.lockServer.adoptAll().values());
    try {
      // Most of it now, while clients are served.
      await setCloseOnExecInSlices(this.descriptors(), false);
      if (!this.options.isEnding()) await exchange(clients);
    } finally {
      if (!this.options.isEnding()) await closeOnExecInTheEnd(() => this.toCloseOnExec());
    }
  }

  /** Returns when the program was not executed, and service goes on. */
  private async exchange(
    successor: OwnSuccessor | CSuccessor,
    candidate: string,
    document: readonly Buffer[],
    clients: ReadonlySet<Connection>,
  ): Promise<void> {
    const { daemon } = this.options;
    daemon.suspend();
    try {
      if (successor instanceof CSuccessor) await this.waitForPending(successor);
      if (!this.options.isEnding() && (await this.lastRequest(successor))) {
        this.handOver(successor, candidate, document, clients);
      }
    } finally {
      if (successor instanceof CSuccessor) successor.undo();
      releaseSignals();
      if (!this.options.isEnding()) daemon.resume();
    }
  }

  /** Those that a document names which is written now, each as it is when its turn comes. */
  private descriptors(): Iterable<number> {
    return descriptorsOf(captureState(this.options.daemon, this.options.ownState()));
  }

  /** One by one: there may be very many. */
  private *toCloseOnExec(): Generator<number> {
    yield* STANDARD_STREAMS;
    yield* this.descriptors();
  }

  /** Waits until no message is half received and no reply half sent, or for as long as is bearable. */
  private async waitForPending({ version }: CSuccessor): Promise<void> {
    const { daemon } = this.options;
    const until = performance.now() + PENDING_MS;
    while (daemon.pendingCount() > 0 && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, PENDING_CHECK_MS));
    }
    const left = daemon.pendingCount();
    if (left > 0) log.warn(`${left} clients have messages under way that libvirt ${version} will lose`);
  }

  /**
   * What was proven may not be what lies at the path since a request that came meanwhile: that one must not be lost with this
   * program. From here on signals are held; one that libuv has caught already is heard within two turns of its loop, and a SIGUSR1
   * is sent again, for the successor. A C daemon would not see it: it is proven anew, as it is when an owner has to be killed.
   * @returns whether to go on
   */
  private async lastRequest(successor: OwnSuccessor | CSuccessor): Promise<boolean> {
    blockSignals();
    for (let turns = 0; turns < 2; turns++) await turn();
    if (this.options.isEnding()) return false;
    if (!(successor instanceof CSuccessor)) {
      if (this.again) process.kill(process.pid, SIGUSR1);
      this.again = false;
    } else if (this.options.daemon.ownerReaper.awaited > 0) this.again = true;
    return !this.again;
  }

  /**
   * Returns only when the daemon was told to end meanwhile.
   *
   * @param cleared clients whose sockets outlive exec already
   */
  private handOver(
    successor: OwnSuccessor | CSuccessor,
    candidate: string,
    proven: readonly Buffer[],
    cleared: ReadonlySet<Connection>,
  ): void {
    const { daemon, stateFile } = this.options;
    // Releases left for later would be unknown to the successor.
    daemon.ownerReaper.finish();
    daemon.flushEvents();
    const own = this.options.ownState();
    const descriptors = new Set(STANDARD_STREAMS);
    if (successor instanceof CSuccessor) {
      // It may have changed since it was proven, which makes no difference to another of our kind.
      writeStateFile(candidate, [successor.lastDocument(own, descriptors)]);
    } else {
      const document = [...formatPieces(captureState(daemon, own, this.pieces), descriptors)];
      this.refuseLackOfRoom(descriptors);
      // Messages under way may have come since: the successor that has proven itself could not read that much.
      checkSize(document, daemon);
      if (!areEqual(document, proven)) writeStateFile(candidate, document);
      refuseChanged(successor);
    }
    publishStateFile(candidate, stateFile);
    try {
      for (const { fd, isOpen } of cleared) if (isOpen) descriptors.delete(fd);
      setCloseOnExec(descriptors, false);
      // A C daemon has no use for the others of ours.
      if (successor instanceof CSuccessor)
        setCloseOnExec(descriptorsIn(ownState, { ...own, pidFile: undefined }), true);
      this.execute(successor);
    } finally {
      // Also when fs-ext cannot be loaded any more, because its files were taken away.
      removeStateFile(stateFile);
    }
  }

  private execute(successor: OwnSuccessor | CSuccessor): void {
    const { program, args } = this.options;
    const isOwn = !(successor instanceof CSuccessor);
    // Our own launcher has just said what it executes: its shell would cost the waiting clients milliseconds.
    const words = [...(isOwn ? successor.command : []), program, ...args];
    const [file = program] = words;
    const variables = Object.entries(this.options.environment());
    const environment = variables.map(([name, value]) => `${name}=${value ?? ''}`);
    const status = posix.execve([file], words, environment, !isOwn);
    if (status !== -EINTR) throw new ExecError(`cannot execute ${file}: ${strerror(status)}`);
  }
}

function keyOf(fd: number | undefined): string | null {
  return fd !== undefined && posix.fstatInode(fd) === 0 ? inodeKey(lastStat()) : null;
}

/**
 * What is held can always be read by a successor, with room left: see lockspace/budget.ts. Messages under way may be more
 * than that room, and may have come since the successor has proven itself.
 *
 * @throws UnfitSuccessor
 */
function checkSize(document: readonly Buffer[], daemon: Daemon): void {
  const size = document.reduce((sum, { length }) => sum + length, 0);
  // To ask for the limit loads a module of the runtime, while clients wait.
  if (size <= SIZE_FREE) return;
  if (size > DOCUMENT_MAX) {
    throw new UnfitSuccessor(`the state takes ${size} bytes, and at most ${DOCUMENT_MAX} are read`);
  }
  const { pendingBytes } = daemon;
  const most = heapLimit() * PENDING_SHARE;
  if (pendingBytes > most) {
    throw new UnfitSuccessor(`messages under way take ${pendingBytes} bytes, and at most ${most} are read`);
  }
}

/** Whether two documents consist of the same pieces. Others may be equal as well, which costs no more than writing one. */
function areEqual(one: readonly Buffer[], other: readonly Buffer[]): boolean {
  return (
    one.length === other.length && one.every((piece, index) => piece === other[index] || other[index]?.equals(piece))
  );
}

/** An upgrade may have begun since it was proven. @throws UnfitSuccessor */
function refuseChanged({ report }: OwnSuccessor): void {
  const changed = findChanged(report?.identities ?? {});
  if (changed !== undefined) throw new UnfitSuccessor(`${changed} has changed since it was proven`);
}

class ExecError extends Error {}

/** A call failed, which is no defect: where that was needs not be told. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).errno === 'number';
}
