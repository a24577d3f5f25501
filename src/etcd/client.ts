/**
 * The daemon's end of its client of etcd (worker.ts): starts the process, sends it requests, and starts another when it ends. Every
 * request may be done twice, so those without an answer are sent to the next one. Nothing here waits.
 */
import { join } from 'node:path';
import { logger } from '../log/log.ts';
import { bytesOf } from '../posix/bytes.ts';
import { reapChild, startChild, Stream } from '../posix/child.ts';
import { posix, strerror } from '../posix/posix.ts';
import { installRoot } from '../posix/root.ts';
import type { Poller } from '../rpc/poller.ts';
import { type AnswerMessage, type Args, Failure, type OperationName, type Result } from './messages.ts';
import { Packets } from './packets.ts';
import { type EtcdSettings, lacksPassword } from './settings.ts';

const log = logger('locking.etcd');

/** Requests that are sent and not answered; others wait here. */
const MAX_SENT = 64;
/** How much longer than it was told the process may take before it counts as hung, in milliseconds. */
const SPARE_MS = 1500;
/** Between two starts, in milliseconds. */
const AGAIN_MS = 500;
const PROGRAM = join(installRoot, 'dist', 'etcd-client.cjs');

export type Reply<N extends OperationName> =
  | { readonly ok: true; readonly result: Result<N> }
  | { readonly ok: false; readonly failure: Failure; readonly text: string };

interface Call {
  readonly name: OperationName;
  readonly args: unknown;
  readonly isUrgent: boolean;
  /** When it is given up. */
  readonly until: number;
  readonly done: (reply: Reply<OperationName>) => void;
}

export interface ClientLink {
  readonly poller: Pick<Poller, 'watch' | 'unwatch'>;
  /** Starts the process with that end of its socket, which the process takes later. Returns its pid; 0: it cannot be started. */
  start(socket: number, onEnd: () => void): number;
  /** The process or its socket is another one. */
  changed(): void;
}

/** Of the previous program. */
export interface ClientProcess {
  readonly socket: number;
  readonly pid: number;
}

/** What the rest of the room asks. */
export interface EtcdRequests {
  /**
   * @param limit milliseconds
   * @param done called later, once
   */
  request<N extends OperationName>(
    name: N,
    args: Args<N>,
    limit: number,
    done: (reply: Reply<N>) => void,
    isUrgent?: boolean,
  ): void;
}

export class EtcdClient implements EtcdRequests {
  private readonly settings: EtcdSettings;
  private readonly link: ClientLink;
  private packets: Packets | null = null;
  private readonly waiting: Call[] = [];
  private readonly sent = new Map<number, Call>();
  /** Higher than that of any program before. */
  private nextId = Math.floor(posix.boottime() * 1000);
  private process: ClientProcess | null = null;
  /** Closes the process's end of the socket here: it has its own. */
  private closeTheirs: () => void = () => undefined;
  private timer: NodeJS.Timeout | undefined;
  private again: NodeJS.Timeout | undefined;
  private hasEnded = false;

  /** @param carried of the previous program */
  constructor(settings: EtcdSettings, link: ClientLink, carried?: ClientProcess) {
    this.settings = settings;
    this.link = link;
    if (carried === undefined) return;
    const packets = this.attach(carried);
    packets.send({ forget: true });
    // It has the last program's, which may have had another password or other certificates.
    if (!lacksPassword(settings)) packets.send({ settings });
  }

  /** For the next program. */
  get state(): ClientProcess | undefined {
    return this.process ?? undefined;
  }

  request<N extends OperationName>(
    name: N,
    args: Args<N>,
    limit: number,
    done: (reply: Reply<N>) => void,
    isUrgent = false,
  ): void {
    const until = posix.boottime() + limit;
    const call: Call = { name, args, isUrgent, until, done: done };
    if (isUrgent) this.waiting.unshift(call);
    else this.waiting.push(call);
    this.start();
    this.sendNext();
    this.timer ??= setTimeout(() => {
      this.expire();
    }, limit + SPARE_MS);
  }

  /** How many requests are not answered. */
  get count(): number {
    return this.waiting.length + this.sent.size;
  }

  /** No request is answered any more. */
  end(): void {
    this.hasEnded = true;
    clearTimeout(this.timer);
    clearTimeout(this.again);
    this.packets?.close();
    this.packets = null;
  }

  /** Starts the process, if it does not run. */
  start(): void {
    if (this.packets !== null || this.hasEnded || this.again !== undefined) return;
    const ends = new Int32Array(2);
    const status = posix.packetPair(ends);
    if (status < 0) {
      log.error(`Cannot start the client of etcd: ${strerror(status)}`);
      this.startLater();
      return;
    }
    const [ours = -1, theirs = -1] = ends;
    let isOpen = true;
    this.closeTheirs = () => {
      if (isOpen) posix.close(theirs);
      isOpen = false;
    };
    const pid = this.link.start(theirs, this.closeTheirs);
    if (pid <= 0) {
      posix.close(ours);
      this.startLater();
      return;
    }
    this.attach({ socket: ours, pid }).send({ settings: this.settings });
    this.link.changed();
  }

  private attach(process: ClientProcess): Packets {
    const packets = new Packets(
      process.socket,
      this.link.poller,
      (message) => {
        this.closeTheirs();
        this.onAnswer(message as AnswerMessage);
      },
      () => {
        this.onEnd(packets);
      },
    );
    this.process = process;
    this.packets = packets;
    return packets;
  }

  private forgetProcess(): void {
    // One of the previous program is no child that startChild knows.
    const { pid } = this.process ?? { pid: 0 };
    if (pid > 0) reapChild(pid);
    this.process = null;
    this.packets = null;
    this.closeTheirs();
    this.link.changed();
  }

  private startLater(): void {
    this.again ??= setTimeout(() => {
      this.again = undefined;
      this.start();
      this.sendNext();
    }, AGAIN_MS);
  }

  private sendNext(): void {
    while (this.packets !== null) {
      const [first] = this.waiting;
      if (first === undefined || (this.sent.size >= MAX_SENT && !first.isUrgent)) return;
      this.waiting.shift();
      const id = this.nextId++;
      const limit = Math.max(first.until - posix.boottime(), 1);
      this.sent.set(id, first);
      this.packets.send({ id, name: first.name, args: first.args, limit });
    }
  }

  private onAnswer(answer: AnswerMessage): void {
    const call = this.sent.get(answer.id);
    if (call === undefined) return;
    this.sent.delete(answer.id);
    if ('failure' in answer) call.done({ ok: false, failure: answer.failure, text: answer.text });
    else call.done({ ok: true, result: answer.result as Result<OperationName> });
    this.sendNext();
  }

  private onEnd(packets: Packets): void {
    if (this.packets !== packets) return;
    this.forgetProcess();
    log.error('The client of etcd has ended: starting another');
    this.waiting.unshift(...this.sent.values());
    this.sent.clear();
    this.startLater();
  }

  /** Gives up requests that are overdue, and a process that has answered none of them. */
  private expire(): void {
    this.timer = undefined;
    const now = posix.boottime();
    const isOver = ({ until }: Call): boolean => now >= until + SPARE_MS;
    const over = [...this.sent].filter(([, call]) => isOver(call));
    for (const [id] of over) this.sent.delete(id);
    const late = this.waiting.filter(isOver);
    for (const call of late) this.waiting.splice(this.waiting.indexOf(call), 1);
    if (over.length > 0 && this.packets !== null) {
      log.error('The client of etcd does not answer: starting another');
      const { packets } = this;
      // The end of its socket ends it. Of one that hangs nothing comes about that would not be asked for.
      packets.close();
      this.forgetProcess();
      this.waiting.unshift(...this.sent.values());
      this.sent.clear();
      this.startLater();
    }
    for (const { done } of [...over.map(([, call]) => call), ...late])
      done({ ok: false, failure: Failure.UNREACHABLE, text: 'the client of etcd does not answer' });
    const first = Math.min(...[...this.sent.values(), ...this.waiting].map(({ until }) => until));
    if (Number.isFinite(first) && !this.hasEnded) {
      this.timer ??= setTimeout(
        () => {
          this.expire();
        },
        Math.max(first + SPARE_MS - now, 1),
      );
    }
  }
}

/** Starts the client's program. Returns its pid, or 0. */
export function startClient(socket: number, onEnd: () => void): number {
  const environment = { PATH: '/usr/bin:/bin', ...(process.env.TZ === undefined ? {} : { TZ: process.env.TZ }) };
  const pid = startChild(
    { file: bytesOf(process.execPath), args: [bytesOf(PROGRAM)], environment, directory: '/' },
    [Stream.NULL, Stream.NULL, Stream.NULL, socket],
    () => {
      onEnd();
    },
  );
  if (pid > 0) return pid;
  log.error(`Cannot start the client of etcd: ${strerror(pid)}`);
  onEnd();
  return 0;
}
