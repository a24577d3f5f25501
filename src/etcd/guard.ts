/**
 * The daemon's end of its guard (guard.c), which kills the owners of locks in etcd before the host's lease ends, also when the daemon is
 * dead, stopped or hung. Nothing here waits.
 *
 * The guard is found again by its socket, which outlives exec and lies in the service manager's store, and by nothing else. A name in a
 * directory or in the abstract namespace would be there without a store as well, but whoever could connect to it could move the deadline on,
 * or take the name first. And a daemon that has died without a store has lost its owners' connections with it: their locks are not to be
 * kept, and the guard is right to kill them. The next daemon takes a new lease, with a guard of its own; each kills its own owners only.
 */
import { constants } from 'node:os';
import { join } from 'node:path';
import { logger } from '../log/log.ts';
import { bytesOf } from '../posix/bytes.ts';
import { startChild, Stream } from '../posix/child.ts';
import { posix, strerror } from '../posix/posix.ts';
import { installRoot } from '../posix/root.ts';
import type { Poller } from '../rpc/poller.ts';
import type { Whole } from '../state/state.ts';
import {
  type Answer,
  ANSWER_SIZE,
  GuardFlag,
  input,
  Operation,
  output,
  readAnswer,
  type Request,
  REQUEST_SIZE,
  writeRequest,
} from './guard-messages.ts';
import type { GuardState } from './guard-state.ts';

const log = logger('locking.lock_daemon');
const { EAGAIN, ECONNRESET, EEXIST, ENOBUFS, ENOMEM, EPIPE, SIGKILL } = { ...constants.errno, ...constants.signals };
/** Errors that pass. */
const NO_ROOM: ReadonlySet<number> = new Set([-EAGAIN, -ENOBUFS, -ENOMEM]);
/** Errors of a socket whose other end is closed. */
const GONE: ReadonlySet<number> = new Set([-EPIPE, -ECONNRESET]);
const PROGRAM = bytesOf(join(installRoot, 'dist', 'etcd-guard'));

/**
 * Requests without an answer. The guard waits for nobody, and drops answers for which the socket has no room: it has for more than 200, and
 * for the guard's reports beside these.
 */
const MAX_ASKED = 64;
/** Until a request is sent again that found no room, in milliseconds. */
const AGAIN_MS = 10;
/** From when on a guard that does not answer counts as hung, in milliseconds. */
const HANGS_MS = 2000;
const DEFAULT_WATCHDOG_SECONDS = 10;
/** Between two starts of guards that do not live to answer, in milliseconds. */
const FAILURE_MS = 1000;

const ends = new Int32Array(2);
const attached = new Int32Array(1);

export interface GuardOptions {
  /** What becomes of a host whose owners cannot be killed in time. */
  readonly fence: 'kill' | 'reboot';
  /** The device of a watchdog that the guard feeds; `none`: the operator knows that there is none. */
  readonly watchdog?: string;
  /** After which the watchdog resets a host whose guard does not run: not longer than from the deadline to the lease's end. */
  readonly watchdogSeconds?: number;
  /** It is only taken over to be ended: what it lacks is nobody's concern. */
  readonly isDismissed?: boolean;
  /** The file that takes sysrq commands; default: the kernel's. */
  readonly sysrq?: string;
}

export interface GuardLink {
  readonly poller: Pick<Poller, 'watch' | 'unwatch'>;
  /** Starts a guard with that end of its socket. `onEnd` is called when the process has taken it, or could not be started. */
  start(socket: number, options: GuardOptions, onEnd: () => void): void;
}

export interface GuardObserver {
  /** There is another socket, or the pid is known: both are to outlive the process. */
  changed(): void;
  /** A socket is about to be closed. */
  closing(socket: number): void;
  /** So many owners were killed, at the deadline. */
  fired(count: number): void;
  /** All that were killed are gone. */
  cleared(): void;
  /** So many owners were not gone in time. `status`: why the host has not been rebooted, -errno. */
  fencing(count: number, status: number): void;
  /** The guard has ended, or hung and was killed, and another one is being started: see {@link Guard.isReady}. */
  died(): void;
}

/** What the guard has, for status. */
export interface GuardFacts {
  readonly pid: number;
  readonly isLockedInMemory: boolean;
  readonly isOomExempt: boolean;
  readonly isRealtime: boolean;
  readonly wakesHost: boolean;
  readonly feedsWatchdog: boolean;
  readonly mayReboot: boolean;
}

interface Owner {
  readonly pidfd: number;
  /** The present guard has it. */
  isGuarded: boolean;
  readonly done: (status: number) => void;
}

interface Question {
  readonly request: Request;
  readonly pidfd: number;
  readonly done: (answer: Answer) => void;
  sent: number;
}

export class Guard {
  private readonly options: GuardOptions;
  private readonly link: GuardLink;
  private readonly observer: GuardObserver;
  private readonly owners = new Map<number, Owner>();
  private deadline: { readonly killAt: number; readonly goneBy: number } | null = null;
  /** -1: there is none. */
  private socket = -1;
  private pid = 0;
  private facts: GuardFacts | null = null;
  private isArmed = false;
  private serial: number;
  /** Not sent yet, and by serial those without an answer. */
  private outbox: [serial: number, question: Question][] = [];
  private readonly asked = new Map<number, Question>();
  private again: NodeJS.Timeout | undefined;
  private readonly watchdogTimer: NodeJS.Timeout;
  private started = 0;
  private hasEnded = false;
  /** Whether the watchdog was fed when a guard has last said so; null: none has. */
  private hasFed: boolean | null = null;

  /** @param carried the guard of the previous program or process: call {@link add} for all owners, then {@link keep} */
  constructor(options: GuardOptions, link: GuardLink, observer: GuardObserver, carried?: GuardState) {
    this.options = options;
    this.link = link;
    this.observer = observer;
    // Higher than those of any daemon before.
    this.serial = Math.floor(posix.boottime() * 1000);
    this.watchdogTimer = setInterval(() => {
      this.lookForHang();
    }, HANGS_MS / 4).unref();
    if (carried === undefined) this.start();
    else {
      this.socket = carried.socket;
      this.pid = carried.pid ?? 0;
      this.greet();
    }
  }

  /** For the next program or process. Undefined while there is no guard. */
  get state(): Whole<GuardState> | undefined {
    const { socket, pid } = this;
    return socket < 0 ? undefined : { socket, pid: pid === 0 ? undefined : pid };
  }

  /** It runs, and has the deadline and all owners. */
  get isReady(): boolean {
    return this.facts !== null && this.isArmed && [...this.owners.values()].every(({ isGuarded }) => isGuarded);
  }

  /** Null while none has answered. */
  get properties(): GuardFacts | null {
    return this.facts;
  }

  /**
   * Has an owner killed at the deadline.
   *
   * @param token the owner's number, never that of another process, also after a restart
   * @param pidfd stays the caller's, until {@link remove}
   * @param done is called later with 0, or -errno as guard.h says, and again by each guard that takes the place of one that has died: until
   * then, from {@link GuardObserver.died} on, the owner must get no lock. After -errno it is not the guard's any more
   */
  add(token: number, pidfd: number, done: (status: number) => void): void {
    const owner: Owner = { pidfd, isGuarded: false, done };
    this.owners.set(token, owner);
    if (this.facts !== null) this.sendOwner(token, owner);
  }

  /** The owner holds nothing any more. */
  remove(token: number): void {
    if (!this.owners.delete(token)) return;
    this.outbox = this.outbox.filter(
      ([, { request }]) => request.operation !== Operation.ADD || request.token !== token,
    );
    this.ask({ operation: Operation.REMOVE, token });
  }

  /**
   * Sets the deadlines, in place of those before: also earlier ones.
   *
   * @param killAt of CLOCK_BOOTTIME in milliseconds, from the moment at which the keepalive was sent
   * @param goneBy when the owners must be gone
   */
  arm(killAt: number, goneBy: number): void {
    this.deadline = { killAt, goneBy };
    this.sendDeadline();
  }

  /** While it has no owner. */
  disarm(): void {
    this.deadline = null;
    this.isArmed = false;
    this.outbox = this.outbox.filter(([, { request }]) => request.operation !== Operation.ARM);
    this.ask({ operation: Operation.DISARM });
  }

  /** Removes the owners of a carried guard that are not among these, nor were added since. @param done called when that is so */
  keep(tokens: ReadonlySet<number>, done = (): void => undefined): void {
    const next = (from: number): void => {
      this.ask({ operation: Operation.LIST, token: from }, ({ next: place, token }) => {
        if (!tokens.has(token) && !this.owners.has(token) && place !== 0)
          this.ask({ operation: Operation.REMOVE, token });
        if (place === 0) done();
        else next(place);
      });
    };
    next(0);
  }

  /** Lets the guard alone: it ends when it has no owner, and kills those that it has at the deadline. */
  end(): void {
    this.hasEnded = true;
    clearInterval(this.watchdogTimer);
    this.close();
  }

  private start(): void {
    if (this.hasEnded || this.socket >= 0) return;
    const wait = this.started + FAILURE_MS - posix.boottime();
    if (this.started > 0 && wait > 0) {
      this.again = setTimeout(() => {
        this.start();
      }, wait);
      return;
    }
    this.started = posix.boottime();
    const status = posix.packetPair(ends);
    if (status < 0) {
      log.error(`Cannot start the guard of locks in etcd: ${strerror(status)}`);
      this.again = setTimeout(() => {
        this.start();
      }, FAILURE_MS);
      return;
    }
    const [ours = -1, theirs = -1] = ends;
    this.socket = ours;
    this.link.start(theirs, this.options, () => {
      posix.close(theirs);
    });
    this.greet();
  }

  private greet(): void {
    this.watch();
    this.ask({ operation: Operation.STATUS }, (answer) => {
      this.identify(answer);
      // Not before: one that is given up without a pid could not be killed. It would find all this when it runs at last, and kill the owners.
      this.sendDeadline();
      for (const [token, owner] of this.owners) this.sendOwner(token, owner);
    });
    this.observer.changed();
  }

  private identify({ process, flags }: Answer): void {
    const has = (flag: number): boolean => (flags & flag) !== 0;
    const isNew = this.pid !== process;
    this.pid = process;
    this.facts = {
      pid: process,
      isLockedInMemory: has(GuardFlag.LOCKED_IN_MEMORY),
      isOomExempt: has(GuardFlag.OOM_EXEMPT),
      isRealtime: has(GuardFlag.REALTIME),
      wakesHost: has(GuardFlag.WAKES_HOST),
      feedsWatchdog: has(GuardFlag.FEEDS_WATCHDOG),
      mayReboot: has(GuardFlag.MAY_REBOOT),
    };
    if (isNew) this.observer.changed();
    const { feedsWatchdog } = this.facts;
    if (this.options.isDismissed === true) return;
    if (this.hasFed === null) this.warn(this.facts);
    else if (!this.hasFed && feedsWatchdog) log.warn(`The guard of locks in etcd feeds ${this.watchdog}`);
    else if (this.hasFed && !feedsWatchdog)
      log.error(`The guard of locks in etcd cannot feed ${this.watchdog} any more, which will reset this host`);
    this.hasFed = feedsWatchdog;
  }

  /** Empty: there is none. */
  private get watchdog(): string {
    const { watchdog = '' } = this.options;
    return watchdog === 'none' ? '' : watchdog;
  }

  private warn({ feedsWatchdog, mayReboot, isLockedInMemory, isRealtime }: GuardFacts): void {
    if (!feedsWatchdog) {
      const { watchdog, watchdogSeconds = DEFAULT_WATCHDOG_SECONDS } = this.options;
      const why =
        this.watchdog === ''
          ? 'No hardware watchdog is configured (etcd_watchdog)'
          : `${this.watchdog} is no watchdog that can be fed by now, and resets a host after ${watchdogSeconds} s`;
      const text = `${why}: owners of locks in etcd that this host cannot kill, because its kernel hangs or the host is paused, may write after another host has their locks; power fencing alone can prevent that`;
      if (watchdog === 'none') log.info(text);
      else log.warn(text);
    }
    if (this.options.fence === 'reboot' && !mayReboot)
      log.error('The guard of locks in etcd may not reboot this host: owners that cannot be killed stay');
    if (!isLockedInMemory || !isRealtime)
      log.warn(
        `The guard of locks in etcd is not ${isLockedInMemory ? 'real-time' : 'locked in memory'}, and may be late: it is not allowed to`,
      );
  }

  private sendDeadline(): void {
    const { deadline } = this;
    if (deadline === null || this.facts === null) return;
    // A later one has the same effect.
    this.outbox = this.outbox.filter(([, { request }]) => request.operation !== Operation.ARM);
    const done = (answer: Answer): void => {
      this.isArmed = answer.status === 0;
      this.identify(answer);
    };
    // Before very many owners that are to be sent still.
    this.outbox.unshift([
      ++this.serial,
      { request: { operation: Operation.ARM, ...deadline }, done, pidfd: -1, sent: 0 },
    ]);
    this.flush();
  }

  private sendOwner(token: number, owner: Owner): void {
    this.ask(
      { operation: Operation.ADD, token },
      ({ status }) => {
        const result = status === -EEXIST ? 0 : status;
        owner.isGuarded = result === 0;
        // Removed since, or another one with that token by now.
        if (this.owners.get(token) !== owner) return;
        if (result !== 0) this.owners.delete(token);
        owner.done(result);
      },
      owner.pidfd,
    );
  }

  private ask(request: Request, done: Question['done'] = () => undefined, pidfd = -1): void {
    if (this.socket < 0) return;
    this.outbox.push([++this.serial, { request, done, pidfd, sent: 0 }]);
    this.flush();
  }

  private flush(): void {
    if (this.socket < 0) return;
    clearTimeout(this.again);
    for (let first = this.outbox[0]; first !== undefined && this.socket >= 0; first = this.outbox[0]) {
      if (this.asked.size >= MAX_ASKED) return;
      const [serial, question] = first;
      writeRequest(serial, question.request);
      const status = posix.sendPacket(this.socket, output, REQUEST_SIZE, question.pidfd);
      if (NO_ROOM.has(status)) {
        this.again = setTimeout(() => {
          this.flush();
        }, AGAIN_MS);
        return;
      }
      if (status < 0) {
        // Never at once: a caller expects no answer before its call returns.
        this.again = setTimeout(() => {
          this.die(strerror(status), GONE.has(status));
        });
        return;
      }
      question.sent = posix.boottime();
      this.asked.set(serial, question);
      this.outbox.shift();
    }
  }

  private watch(): void {
    this.link.poller.watch(this.socket, () => {
      this.receive();
    });
  }

  private receive(): void {
    for (;;) {
      const size = posix.receivePacket(this.socket, input, attached);
      if (size === -EAGAIN) break;
      const [fd = -1] = attached;
      if (fd >= 0) posix.close(fd);
      if (size !== ANSWER_SIZE) {
        const why = size > 0 ? `a message of ${size} bytes` : size === 0 ? 'its process is gone' : strerror(size);
        this.die(why, size === 0 || GONE.has(size));
        return;
      }
      this.onAnswer(readAnswer());
      // A callback may have ended it.
      if (this.socket < 0) return;
    }
    this.watch();
  }

  private onAnswer(answer: Answer): void {
    const { operation, serial, count, status } = answer;
    switch (operation) {
      case Operation.FIRED:
        this.observer.fired(count);
        break;
      case Operation.CLEARED:
        this.observer.cleared();
        break;
      case Operation.FENCING:
        this.observer.fencing(count, status);
        break;
      default: {
        const question = this.asked.get(serial);
        this.asked.delete(serial);
        // Otherwise it is the answer to a request of another daemon.
        question?.done(answer);
        this.flush();
      }
    }
  }

  private lookForHang(): void {
    const [oldest] = this.asked.values();
    const since = oldest?.sent ?? 0;
    if (since === 0 || posix.boottime() - since < HANGS_MS) return;
    // What has come while this process was stopped counts.
    this.receive();
    const [still] = this.asked.values();
    if (still?.sent !== since) return;
    this.die('it does not answer', false);
  }

  /** The socket is the guard's still, so its process has not been reaped for long, and its number is not another's. */
  private kill(): void {
    const pidfd = posix.pidfdOpen(this.pid);
    if (pidfd < 0) return;
    posix.pidfdSignal(pidfd, SIGKILL);
    posix.close(pidfd);
  }

  /** @param isGone its process is known to be: one that is not would kill its owners at a deadline that is not moved on any more */
  private die(why: string, isGone: boolean): void {
    if (this.socket < 0) return;
    if (!isGone && this.pid > 0) this.kill();
    log.error(`The guard of locks in etcd has ended (${why}): starting another`);
    this.close();
    for (const owner of this.owners.values()) owner.isGuarded = false;
    this.observer.died();
    this.start();
  }

  private close(): void {
    clearTimeout(this.again);
    if (this.socket < 0) return;
    const { socket } = this;
    this.link.poller.unwatch(socket);
    this.observer.closing(socket);
    this.socket = -1;
    this.pid = 0;
    this.facts = null;
    this.isArmed = false;
    this.outbox = [];
    this.asked.clear();
    posix.close(socket);
  }
}

/** Of the guard's program. */
export function guardArguments({
  fence,
  watchdog,
  watchdogSeconds,
  sysrq,
}: Required<Omit<GuardOptions, 'isDismissed'>>): string[] {
  return [fence, bytesOf(sysrq), watchdog === 'none' ? '' : bytesOf(watchdog), String(watchdogSeconds)];
}

/** Starts the guard's program. */
export function startGuard(
  socket: number,
  { fence, watchdog = '', watchdogSeconds = DEFAULT_WATCHDOG_SECONDS, sysrq = '/proc/sysrq-trigger' }: GuardOptions,
  onEnd: () => void,
): void {
  const pid = startChild(
    {
      file: PROGRAM,
      name: 'virtlockd-guard',
      args: guardArguments({ fence, watchdog, watchdogSeconds, sysrq }),
      environment: {},
    },
    [Stream.NULL, Stream.NULL, Stream.NULL, socket],
    (status) => {
      if (status !== 0) log.error(`Cannot start the guard of locks in etcd: its program ended with status ${status}`);
      onEnd();
    },
  );
  if (pid > 0) return;
  log.error(`Cannot start the guard of locks in etcd: ${strerror(pid)}`);
  onEnd();
}
