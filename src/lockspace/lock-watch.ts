/**
 * Confirms, at an interval, the locks that storage helpers keep: a host that was cut off from its file server has lost them to others, and
 * its kernel does not notice. The helpers ask (storage/proof.h), one question at a time in each file system, and nobody waits for that. A
 * lock that another has is reported, and its owners are ended if the configuration says so. One that nobody has is locked again.
 */
import { logger } from '../log/log.ts';
import { absolutePath } from '../proc/route.ts';
import { inSlices } from '../rpc/slices.ts';
import { Waiters, Waiting } from '../rpc/waiting.ts';
import { type Answer, AnswerFlag, Operation, type Request } from '../storage/messages.ts';
import type { Storages } from '../storage/storages.ts';
import { strerror } from '../posix/posix.ts';
import { type HeldFile, noteFileChange } from './files.ts';
import { type LockLoss, lossAfter, type Verdict, verdictOf } from './lock-loss.ts';
import type { Lockspaces, Resource } from './lockspaces.ts';
import { describeEnd, type Hold, nameOwners } from './owner.ts';
import { isHoldersOwn } from './remote-files.ts';

const log = logger('locking.lock_daemon');

/** How long a client waits for the answers that it has asked for, in milliseconds. */
const PATIENCE_MS = 2000;
/** From when on a question without an answer counts as unknown, in milliseconds. */
const LATE_MS = 1500;

export interface LockWatchSettings {
  /** Seconds between two questions about a lock; 0: none is asked unless a client wants it. */
  readonly interval: number;
  /** Owners of a lock that another has are ended. */
  readonly endsOwners: boolean;
}

export const DEFAULT_LOCK_WATCH: LockWatchSettings = { interval: 30, endsOwners: false };

/**
 * How long a lock is held before it is asked about for the first time, in milliseconds. One that is given back before is not: its release would
 * wait for the answer, and the server have the work.
 */
const FRESH_MS = 1000;

/** What is known of a lock: `kind` as of the last answer. */
export interface LockState {
  readonly kind: 'held' | 'taken' | 'gone' | 'regained' | 'unasked' | 'unknown';
  /** When it was last known to be held, in milliseconds since 1970; 0: never. */
  readonly confirmed: number;
  /** Why it is not known; else empty. */
  readonly reason: string;
  readonly loss: LockLoss | null;
}

/** What was asked about a file. Of a file that is taken again this goes on. */
interface Known {
  confirmed: number;
  verdict: Verdict;
  /** Since when an answer is due; 0: none is. */
  asked: number;
}

/** The files of one helper that are to be asked about, each with a resource that holds it. */
interface Questions {
  readonly due: Map<HeldFile, Resource>;
  isAsking: boolean;
}

/** A storage helper, as far as it is asked about locks. It calls `done` later; null: it has died. */
export interface LockAsker {
  readonly id: number;
  call(request: Request, pid: number, done: (answer: Answer | null) => void): unknown;
}

export interface WatchedStorages extends Pick<Storages, 'wasHelper' | 'hasHelpers'> {
  /** Undefined when it has died. */
  byId(id: number): LockAsker | undefined;
}

interface LockWatchHost {
  /** Kills the processes of the owners of these holds. */
  endOwners(holds: readonly Hold[]): void;
}

export class LockWatch {
  private readonly storages: WatchedStorages;
  private readonly lockspaces: Lockspaces;
  private readonly host: LockWatchHost;
  private settings: LockWatchSettings;
  private readonly clock: () => number;
  private isStarted = false;
  private timer: NodeJS.Timeout | undefined;
  private readonly known = new WeakMap<HeldFile, Known>();
  private readonly questions = new Map<number, Questions>();
  private readonly idle = new Waiters();
  /** Granted a moment ago. */
  private readonly fresh = new Set<Resource>();
  private freshTimer: NodeJS.Timeout | undefined;
  private readonly freshMs: number;
  /** Resources whose locks are or were lost, and files of which nothing is known; some may be released by now. */
  private readonly losses = new Set<Resource>();
  private readonly unknown = new Set<HeldFile>();
  /** Clients that wait for answers, or may have them now. */
  private readonly waiting = new WeakMap<object, Waiters | 'answered'>();

  constructor(
    storages: WatchedStorages,
    lockspaces: Lockspaces,
    host: LockWatchHost,
    settings = DEFAULT_LOCK_WATCH,
    clock = Date.now,
    freshMs = FRESH_MS,
  ) {
    this.freshMs = freshMs;
    this.storages = storages;
    this.lockspaces = lockspaces;
    this.host = host;
    this.settings = settings;
    this.clock = clock;
  }

  /** Begins to ask, at once about all locks: the file systems may not have been asked before. */
  start(): void {
    this.isStarted = true;
    for (const resource of this.lockspaces.resources()) if (resource.file.loss !== null) this.losses.add(resource);
    if (this.settings.interval > 0) void this.round();
    this.schedule();
  }

  configure(settings: LockWatchSettings): void {
    const isNew = settings.interval !== this.settings.interval;
    this.settings = settings;
    if (isNew && this.isStarted) this.schedule();
  }

  private schedule(): void {
    clearTimeout(this.timer);
    const { interval } = this.settings;
    if (interval === 0) return;
    this.timer = setTimeout(() => {
      void this.round();
      this.schedule();
    }, interval * 1000).unref();
  }

  /**
   * A lock was granted. It is asked about soon: only where nothing was in its way once, a lock that is in its way later is proof of its loss.
   */
  granted(resource: Resource): void {
    if (!this.isStarted || this.settings.interval === 0) return;
    this.fresh.add(resource);
    this.freshTimer ??= setTimeout(() => {
      this.freshTimer = undefined;
      const due = [...this.fresh];
      this.fresh.clear();
      void inSlices(due, (one) => {
        if (one.holdCount > 0) this.add(one);
      });
    }, this.freshMs).unref();
  }

  /** Resources whose locks were lost, also those that were taken again. */
  get lost(): readonly Resource[] {
    for (const resource of this.losses)
      if (resource.file.loss === null || resource.holdCount === 0) this.losses.delete(resource);
    return [...this.losses];
  }

  /** How many locks were asked about without an answer that says anything. */
  get unknownCount(): number {
    for (const file of this.unknown) if (file.references === 0) this.unknown.delete(file);
    return this.unknown.size;
  }

  /** Null: its file is not a storage helper's, or a device node, whose locks are this kernel's. */
  stateOf({ file }: Resource): LockState | null {
    const { loss } = file;
    if ((file.remote === null || file.blockDevice > 0) && loss === null) return null;
    const { confirmed, verdict, asked } = this.known.get(file) ?? NOTHING;
    // A program before this one may have asked.
    const known = { confirmed: Math.max(confirmed, loss?.confirmed ?? 0, loss?.regained ?? 0), reason: '', loss };
    if (loss !== null && loss.regained === 0) return { ...known, kind: loss.taken ? 'taken' : 'gone' };
    if (!file.locked && loss?.regained !== 0) return { ...known, kind: 'unknown', reason: WENT_WITH_HELPER };
    if (asked > 0 && this.clock() - asked >= LATE_MS) {
      const reason = `its file system does not answer since ${new Date(asked).toISOString()}`;
      return { ...known, kind: 'unknown', reason };
    }
    if (loss !== null) return { ...known, kind: 'regained' };
    return { ...known, kind: verdict.kind, reason: verdict.kind === 'unknown' ? verdict.reason : '' };
  }

  /** Has a client wait until the locks are asked about, for a moment at most. @param client the same when it calls again @throws Waiting */
  awaitAnswers(client: object): void {
    if (!this.storages.hasHelpers) return;
    let waiters = this.waiting.get(client);
    if (waiters === 'answered') {
      this.waiting.delete(client);
      return;
    }
    if (waiters === undefined) {
      const made = (waiters = new Waiters());
      this.waiting.set(client, made);
      void this.answered().then(() => {
        this.waiting.set(client, 'answered');
        made.wake();
      });
    }
    const waited = waiters;
    throw new Waiting((done) => waited.wait(done));
  }

  /** Resolves when all locks have been asked about, or the patience for that is over. */
  private async answered(): Promise<void> {
    await this.round();
    if (this.isIdle) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, PATIENCE_MS);
      const check = (): void => {
        if (!this.isIdle) {
          this.idle.wait(check);
          return;
        }
        clearTimeout(timer);
        resolve();
      };
      this.idle.wait(check);
    });
  }

  private get isIdle(): boolean {
    for (const { isAsking } of this.questions.values()) if (isAsking) return false;
    return true;
  }

  private async round(): Promise<void> {
    // There may be very many locks on local file systems.
    if (!this.storages.hasHelpers) return;
    const seen = new Set<HeldFile>();
    await inSlices(this.lockspaces.resources(), (resource) => {
      const { file } = resource;
      if (file.remote === null || seen.has(file)) return;
      seen.add(file);
      this.add(resource);
    });
  }

  private add(resource: Resource): void {
    const { file } = resource;
    const id = file.remote?.helper;
    // A device node is local, and its locks are this kernel's.
    if (id === undefined || file.blockDevice > 0) return;
    let questions = this.questions.get(id);
    if (questions === undefined) {
      questions = { due: new Map(), isAsking: false };
      this.questions.set(id, questions);
    }
    const known = this.knownOf(file);
    if (known.asked > 0) return;
    known.asked = this.clock();
    questions.due.set(file, resource);
    if (!questions.isAsking) this.askNext(id, questions);
  }

  private knownOf(file: HeldFile): Known {
    let known = this.known.get(file);
    if (known === undefined) {
      known = { ...NOTHING };
      this.known.set(file, known);
    }
    return known;
  }

  private askNext(id: number, questions: Questions): void {
    const helper = this.storages.byId(id);
    for (const [file, resource] of questions.due) {
      questions.due.delete(file);
      if (helper === undefined || !isKept(resource, id)) {
        this.knownOf(file).asked = 0;
        continue;
      }
      questions.isAsking = true;
      this.ask(helper, resource, () => {
        this.askNext(id, questions);
      });
      return;
    }
    questions.isAsking = false;
    if (helper === undefined) this.questions.delete(id);
    this.idle.wake();
  }

  private ask(helper: LockAsker, asked: Resource, done: () => void): void {
    const { file } = asked;
    const number = file.remote?.file ?? 0;
    helper.call({ operation: Operation.CONFIRM_LOCK, file: number }, 0, (answer) => {
      this.knownOf(file).asked = 0;
      if (!isKept(asked, helper.id) || file.remote?.file !== number) {
        done();
        return;
      }
      // That name may have been released, and the file be held by another one.
      const resource = asked.holdCount > 0 ? asked : (this.lockspaces.resourcesOf([file])[0] ?? asked);
      const verdict = verdictOf(answer, (pid) => isHoldersOwn(pid, file, this.storages, this.lockspaces));
      this.conclude(resource, verdict);
      if (verdict.kind === 'gone') this.lockAgain(helper, resource, done);
      else done();
    });
  }

  private conclude(resource: Resource, verdict: Verdict): void {
    const { file } = resource;
    const known = this.knownOf(file);
    const now = this.clock();
    this.noteUnknown(resource, known, verdict);
    known.verdict = verdict;
    if (verdict.kind === 'held') known.confirmed = now;
    this.change(resource, lossAfter(file.loss, verdict, now, known.confirmed));
    if (verdict.kind === 'taken' && this.settings.endsOwners) this.endOwners(file);
  }

  private noteUnknown({ file, name }: Resource, { verdict: before }: Known, verdict: Verdict): void {
    if (verdict.kind !== 'unknown') {
      this.unknown.delete(file);
      if (before.kind === 'unknown') log.info(`Whether the lock of resource '${name}' is held can be asked again`);
      return;
    }
    this.unknown.add(file);
    if (before.kind !== 'unknown')
      log.warn(`Whether the lock of resource '${name}' is still held is not known: ${verdict.reason}`);
  }

  /** Records and reports what has become of a lock, for all resources that have it. */
  private change(resource: Resource, loss: LockLoss | null): void {
    const { file } = resource;
    const before = file.loss;
    if (loss === before || loss === null) return;
    noteFileChange();
    file.loss = loss;
    file.locked = loss.regained > 0;
    for (const holder of this.lockspaces.resourcesOf([file])) {
      this.losses.add(holder);
      if (loss.regained > 0) log.warn(`The ${serverLossText(holder, loss)}`);
      else log.error(`The ${serverLossText(holder, loss)}`);
      this.lockspaces.noteLoss(holder, before === null || before.regained > 0);
    }
  }

  private endOwners(file: HeldFile): void {
    for (const { name, holds } of this.lockspaces.resourcesOf([file])) {
      const live = holds.filter(({ end }) => end === undefined);
      if (live.length > 0) log.error(`The owners of resource '${name}' ${describeEnd(live)}: lost_locks is "end"`);
      this.host.endOwners(live);
    }
  }

  private lockAgain(helper: LockAsker, resource: Resource, done: () => void): void {
    const { file, path, name } = resource;
    const number = file.remote?.file ?? 0;
    const request = { operation: Operation.LOCK_AGAIN, file: number, path: absolutePath(path) };
    helper.call(request, 0, (answer) => {
      const isKeptStill = isKept(resource, helper.id) && file.remote?.file === number;
      if (isKeptStill && answer?.status === 0) {
        const now = this.clock();
        this.knownOf(file).confirmed = now;
        this.knownOf(file).verdict = { kind: 'held' };
        if (file.loss !== null) this.change(resource, { ...file.loss, regained: now });
        this.lockspaces.remoteFiles?.notes.changed(resource);
      } else if (isKeptStill && answer !== null)
        log.warn(`The lock of resource '${name}' cannot be taken again yet: ${reasonIn(answer)}`);
      done();
    });
  }
}

/** See RemoteFiles.lost. */
export const WENT_WITH_HELPER = 'its storage helper has ended, and it is asked for again';

const NOTHING: Readonly<Known> = { confirmed: 0, verdict: { kind: 'unasked' }, asked: 0 };

function isKept({ file, release }: Resource, helper: number): boolean {
  return file.references > 0 && release === null && file.remote?.helper === helper;
}

function reasonIn({ status, flags }: Answer): string {
  return (flags & AnswerFlag.BUSY) === 0 ? strerror(status) : 'another process or host has it';
}

/** What has become of the lock of a resource, and of whom. */
export function serverLossText({ name, holds }: Resource, loss: LockLoss): string {
  const owners = `owners ${nameOwners(holds)}`;
  const last = loss.confirmed === 0 ? '' : `, and was last confirmed at ${new Date(loss.confirmed).toISOString()}`;
  const process = loss.pid === 0 ? '' : `, process ${loss.pid} to the file system`;
  const where = loss.taken ? `another process or host has it${process}` : 'nobody else is known to have it';
  if (loss.regained > 0)
    return `lock of resource '${name}', ${owners}, was lost${last}, and is taken again: in between another host may have written`;
  return `lock of resource '${name}', ${owners}, is lost${last}: ${where}`;
}
