/**
 * The daemon's end of one helper process (helper.c): sends it one request at a time, and keeps the others in a queue. Nothing here waits.
 */
import { constants } from 'node:os';
import { join } from 'node:path';
import { logger } from '../log/log.ts';
import { bytesOf } from '../posix/bytes.ts';
import { EXEC_STATUS, startChild, Stream } from '../posix/child.ts';
import { posix, strerror } from '../posix/posix.ts';
import { installRoot } from '../posix/root.ts';
import type { Place } from '../proc/route.ts';
import type { Poller } from '../rpc/poller.ts';
import type { Whole } from '../state/state.ts';
import {
  type Answer,
  ANSWER_SIZE,
  AnswerFlag,
  NOTED_ANSWER_SIZE,
  Operation,
  readAnswer,
  type Request,
  REQUEST_MAX,
  RequestFlag,
  serialOf,
  writeRequest,
} from './messages.ts';
import type { HelperState } from './state.ts';

const log = logger('locking.lock_daemon');
const { EAGAIN, ENOBUFS, ENOMEM } = constants.errno;
/** Errors that pass. */
const NO_ROOM: ReadonlySet<number> = new Set([-EAGAIN, -ENOBUFS, -ENOMEM]);
/** Until a request is sent again that found no room, in milliseconds. */
const AGAIN_MS = 100;
const PROGRAM = bytesOf(join(installRoot, 'dist', 'storage'));

/** How long a helper may take to start, in milliseconds, before those who need not wait for it do not. */
const START_MS = 500;
/** Packets of one helper that are read before others are served: it may list very many files. */
const PACKETS_AT_ONCE = 64;

/** From when on a call counts as hanging, in milliseconds. */
const HANGS_MS = 5000;

/** Shared by all helpers: each use ends before the next begins. */
const ends = new Int32Array(2);
const attached = new Int32Array(1);
const output = Buffer.alloc(REQUEST_MAX);
const input = Buffer.alloc(NOTED_ANSWER_SIZE + 1);

/** A request, queued or sent. */
export interface StorageCall {
  readonly request: Request;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** Whom it is for: the owner's pid, 0 for none. */
  readonly pid: number;
}

interface QueuedCall extends StorageCall {
  /** Null: the helper has died. Another helper may answer than was asked: see {@link Helper.takeCalls}. */
  readonly done: (answer: Answer | null, helper: Helper) => void;
  readonly onMore?: CallOptions['onMore'];
  /** Nobody waits for the answer any more. */
  isForgotten: boolean;
}

/** The system calls and the clock of a helper. */
export interface HelperLink {
  readonly poller: Pick<Poller, 'watch' | 'unwatch'>;
  /** Starts a helper process with this end of its socket. The process takes it later; `onEnd` is called if it ends. */
  start(socket: number, place: Place, onEnd: () => void): void;
}

/** What a helper reports. */
export interface HelperObserver {
  /** Its pid is known now. */
  identified(helper: Helper): void;
  /** The process is gone: see {@link Helper.takeCalls}. */
  died(helper: Helper): void;
}

export class Helper {
  readonly id: number;
  readonly place: Place;
  readonly socket: number;
  private readonly link: HelperLink;
  private readonly observer: HelperObserver;
  /** Closes the process's end of the socket here: it has its own. */
  private readonly closeTheirs: () => void;
  private readonly queue: QueuedCall[] = [];
  private current: QueuedCall | null = null;
  /** When the present request was sent, in milliseconds since 1970. */
  private sent = 0;
  private serial: number;
  private timer: NodeJS.Timeout | undefined;
  private again: NodeJS.Timeout | undefined;
  private isReported = false;
  isDead = false;
  /** Its process; 0 while it has not answered. */
  pid = 0;
  /** It has answered. */
  hasServed = false;
  private readonly started = Date.now();
  private readonly awaitingStart = new Set<() => void>();
  /** It gets no request before {@link attach}. */
  private isPaused: boolean;

  /**
   * @param socket the daemon's end
   * @param isPaused it is another daemon's, or of the previous program: call {@link attach}
   */
  constructor(
    id: number,
    place: Place,
    socket: number,
    link: HelperLink,
    observer: HelperObserver,
    isPaused = false,
    closeTheirs: () => void = () => undefined,
  ) {
    this.id = id;
    this.place = place;
    this.socket = socket;
    this.link = link;
    this.observer = observer;
    this.isPaused = isPaused;
    this.closeTheirs = closeTheirs;
    // Higher than those of any daemon before: a request takes more than a microsecond.
    this.serial = Number(process.hrtime.bigint() / 1000n);
    this.watch();
  }

  /** Starts a helper. Returns -errno when there is no socket for it. */
  static start(id: number, place: Place, link: HelperLink, observer: HelperObserver): Helper | number {
    const status = posix.packetPair(ends);
    if (status < 0) return status;
    const [ours = -1, theirs = -1] = ends;
    let isOpen = true;
    const closeTheirs = (): void => {
      if (isOpen) posix.close(theirs);
      isOpen = false;
    };
    link.start(theirs, place, closeTheirs);
    return new Helper(id, place, ours, link, observer, false, closeTheirs);
  }

  get state(): Whole<HelperState> {
    const { id, place, socket, pid } = this;
    return { id, ...place, socket, pid: pid === 0 ? undefined : pid };
  }

  /** How many calls are queued or sent. */
  get count(): number {
    return this.queue.length + (this.current === null ? 0 : 1);
  }

  /** Since when it has not answered, in milliseconds since 1970; 0 when it does. */
  get hangsSince(): number {
    return this.current !== null && Date.now() - this.sent >= HANGS_MS ? this.sent : 0;
  }

  /** Its process is there. */
  get isUp(): boolean {
    return this.pid !== 0;
  }

  /** Calls `done` later, when its process is there, or cannot be expected any more. Returns a function that cancels that. */
  awaitStart(done: () => void): () => void {
    const cancel = (): void => {
      clearTimeout(timer);
      this.awaitingStart.delete(wake);
    };
    const wake = (): void => {
      cancel();
      done();
    };
    const timer = setTimeout(wake, Math.max(this.started + START_MS - Date.now(), 0));
    this.awaitingStart.add(wake);
    return cancel;
  }

  /** Its process is not there, though it should be. */
  get isLate(): boolean {
    return !this.isUp && Date.now() - this.started >= START_MS;
  }

  private wakeAwaiting(): void {
    for (const wake of this.awaitingStart) wake();
  }

  /** The call that was sent, then those behind it. */
  get calls(): StorageCall[] {
    return this.current === null ? [...this.queue] : [this.current, ...this.queue];
  }

  /**
   * Sends a request, behind the others. Returns a function that forgets it: an acquire that succeeds all the same is undone.
   *
   * @param done is called later with the answer (null: the helper has died) and the helper that has answered
   */
  call(request: Request, pid: number, done: QueuedCall['done'], options: CallOptions = {}): () => void {
    const { onMore, isUrgent = false } = options;
    const call: QueuedCall = {
      request,
      pid,
      since: Date.now(),
      done,
      isForgotten: false,
      ...(onMore === undefined ? {} : { onMore }),
    };
    if (isUrgent) this.queue.unshift(call);
    else this.queue.push(call);
    this.sendNext();
    return () => {
      call.isForgotten = true;
      const index = this.queue.indexOf(call);
      if (index >= 0) this.queue.splice(index, 1);
    };
  }

  /** Has a helper of a former program or process list its files, before anything else. */
  attach(done: (files: readonly Answer[]) => void): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    const files: Answer[] = [];
    this.call(
      { operation: Operation.LIST },
      0,
      (last) => {
        if (last !== null) done(files);
      },
      { onMore: (file) => files.push(file), isUrgent: true },
    );
  }

  /** After its death: the calls that have no answer, each to be passed the next helper or null. */
  takeCalls(): ((next: Helper | null) => void)[] {
    const calls = [...(this.current === null ? [] : [this.current]), ...this.queue.splice(0)];
    this.current = null;
    return calls.map((call) => (next) => {
      if (call.isForgotten) return;
      // The files that it had locked are not the next one's.
      if (next === null || call.request.file !== undefined || call.onMore !== undefined) call.done(null, this);
      else next.adopt(call);
    });
  }

  private adopt(call: QueuedCall): void {
    this.queue.push(call);
    this.sendNext();
  }

  private watch(): void {
    this.link.poller.watch(this.socket, () => {
      this.receive();
    });
  }

  private sendNext(): void {
    if (this.current !== null || this.isDead || this.isPaused) return;
    const call = this.queue.shift();
    if (call === undefined) return;
    this.current = call;
    this.sent = Date.now();
    this.serial++;
    this.send(call.request);
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.report();
    }, HANGS_MS).unref();
  }

  private send(request: Request): void {
    const length = writeRequest(output, this.serial, request);
    const status = posix.sendPacket(this.socket, output, length);
    if (status >= 0) return;
    log.debug(() => `sending to the storage helper ${this.id}: ${strerror(status)}`);
    const then = NO_ROOM.has(status)
      ? (): void => {
          this.send(request);
        }
      : (): void => {
          this.die(status);
        };
    // Never at once: a caller does not expect the answer before its call returns.
    this.again = setTimeout(then, AGAIN_MS);
  }

  private report(): void {
    if (this.current === null || this.isReported || this.isDead) return;
    const late = HANGS_MS - (Date.now() - this.sent);
    if (late > 0) {
      this.timer = setTimeout(() => {
        this.timer = undefined;
        this.report();
      }, late).unref();
      return;
    }
    this.isReported = true;
    const { request, since, pid } = this.current;
    const path = request.path === undefined ? '' : ` of ${request.path}`;
    const owner = pid === 0 ? '' : ` for owner ${pid}`;
    log.error(
      `The file system at ${this.place.name} does not answer a call${path}${owner} since ${new Date(since).toISOString()}: calls for it wait, all others are served`,
    );
  }

  private receive(): void {
    for (let left = PACKETS_AT_ONCE; left > 0; left--) {
      const size = posix.receivePacket(this.socket, input, attached);
      if (size === -EAGAIN) break;
      const [fd = -1] = attached;
      if (size === ANSWER_SIZE || size === NOTED_ANSWER_SIZE) this.onAnswer(fd, input.subarray(ANSWER_SIZE, size));
      else {
        if (fd >= 0) posix.close(fd);
        this.die(size);
      }
      if (this.isDead) return;
    }
    this.watch();
  }

  private onAnswer(fd: number, note: Buffer): void {
    const { current } = this;
    const isWanted = current?.request.operation === Operation.HAND_OVER && serialOf(input) === this.serial;
    if (fd >= 0 && !isWanted) posix.close(fd);
    // Otherwise it is the answer to a request of another daemon.
    if (current === null || serialOf(input) !== this.serial) return;
    const answer = readAnswer(input, isWanted ? fd : -1);
    if (!this.hasServed) this.closeTheirs();
    this.hasServed = true;
    if (answer.helper > 0 && answer.helper !== this.pid) {
      this.pid = answer.helper;
      this.observer.identified(this);
      this.wakeAwaiting();
    }
    if ((answer.flags & AnswerFlag.MORE) !== 0) {
      current.onMore?.(answer, note);
      return;
    }
    this.current = null;
    if (this.isReported) log.warn(`The file system at ${this.place.name} answers again`);
    this.isReported = false;
    if (current.isForgotten) this.undo(current, answer);
    else current.done(answer, this);
    this.sendNext();
    if (this.count === 0) {
      clearTimeout(this.timer);
      this.timer = undefined;
    }
  }

  /** The answer to a call that nobody waits for. */
  private undo({ request }: StorageCall, { status, file, fd }: Answer): void {
    if (fd >= 0) posix.close(fd);
    if (request.operation !== Operation.ACQUIRE || status !== 0) return;
    this.call(undoing(request, file), 0, () => undefined, { isUrgent: true });
  }

  private die(size: number): void {
    if (size > 0) log.error(`The storage helper ${this.id} sent a message of ${size} bytes`);
    this.end();
    this.observer.died(this);
  }

  /** Gets no request any more. */
  end(): void {
    this.isDead = true;
    clearTimeout(this.timer);
    clearTimeout(this.again);
    this.closeTheirs();
    this.link.poller.unwatch(this.socket);
    this.wakeAwaiting();
  }
}

export interface CallOptions {
  /** Gets the answers before the last one, of LIST and READ_NOTES: a note is of the latter, and overwritten after the call. */
  readonly onMore?: (answer: Answer, note: Buffer) => void;
  /** Ahead of the queue. */
  readonly isUrgent?: boolean;
}

/** The request that undoes an acquire. */
export function undoing({ flags = 0, path = '' }: Request, file: number): Request {
  const isMade = (flags & RequestFlag.CREATE) !== 0;
  return { operation: Operation.RELEASE, flags: isMade ? RequestFlag.UNLINK : 0, file, path };
}

/** Starts the helper's program. */
export function startHelper(socket: number, { name }: Place, onEnd: () => void): void {
  const complain = (reason: string): void => {
    log.error(`Cannot start the storage helper for ${name}: ${reason}`);
  };
  const pid = startChild(
    { file: PROGRAM, name: 'virtlockd-storage', args: [name], environment: {} },
    [Stream.NULL, Stream.NULL, Stream.NULL, socket],
    (status) => {
      if (status === EXEC_STATUS) complain('its program cannot be executed');
      onEnd();
    },
  );
  if (pid > 0) return;
  complain(strerror(pid));
  onEnd();
}
