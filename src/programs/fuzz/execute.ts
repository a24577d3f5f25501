/** Runs a sequence against a target and judges its answers. */
import { lstatSync, mkdirSync } from 'node:fs';
import { isOnDevice, recordLocksOf } from '../../proc/locks.ts';
import { editMessage, encodeCall, type Resolve } from './encode.ts';
import { Model } from './model.ts';
import type { Connection } from './model-state.ts';
import { countEvent, filterOfStep, isEvent, judgeList, type Page, parsePage } from './model-inquire.ts';
import { type Expected, mismatch, pingMessage, Words } from './model-wire.ts';
import type { Call, ListName, Sequence, ServerName, Step } from './steps.ts';
import type { Link, Target } from './target.ts';
import { changeFiles, listing } from './world.ts';

/** A judge's objection. */
export interface Problem {
  readonly judge:
    | 'alive'
    | 'reply'
    | 'answers-others'
    | 'files'
    | 'locks'
    | 'events'
    | 'descriptors'
    | 'memory'
    | 'restart'
    | 'exception';
  readonly step: number;
  readonly detail: string;
}

export interface Outcome {
  readonly problem: Problem | null;
  /** The number of answered messages. */
  readonly calls: number;
  /** All answers in order, a line each, by which two daemons are compared. */
  readonly transcript: readonly string[];
}

interface ExecuteOptions {
  /** Whether the model judges replies; else it only says how many are due. */
  readonly judged: boolean;
  /** Also runs the slow judges: of the kernel's locks, a new connection, all events. */
  readonly thorough: boolean;
}

/** Readings of the kernel's table before a lock counts as missing. */
const LOCK_READINGS = 20;
/** Pages after which a list counts as endless. */
const MAX_PAGES = 400;
/** The most calls to gather. */
const MAX_GATHERED = 32;
/** The longest wait for the events of a real daemon, in ms. */
const EVENTS_PATIENCE = 1000;
const NOTHING = Buffer.alloc(0);
const PING = pingMessage();
const SUCCESS = 0;

/** A judge objects. */
export class Failure extends Error {
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

/** The directory of a run, always of one length: the bytes of a sequence differ in its number only. */
function runDirectory(number: number): string {
  return `q${String(number % 1_000_000).padStart(6, '0')}`;
}

interface Open {
  readonly link: Link;
  /** The model's connection. */
  readonly connection: Connection;
  received: Buffer;
  ended: boolean;
  /** The daemon has answered on it, and so has accepted it. */
  isKnown: boolean;
  /** The newest reply, and the cursor that the newest page ended with. */
  last: Buffer;
  cursor: bigint;
}

/** One run: a model and a daemon side by side. */
export class Run {
  readonly model: Model;
  readonly transcript: string[] = [];
  calls = 0;
  private readonly target: Target;
  private readonly options: ExecuteOptions;
  private readonly links = new Map<number, Open>();
  private readonly directory: string;
  private serial = 0;
  private at = 0;
  private gathers = false;
  /** Calls to be sent, and their connection. */
  private gathered: Buffer[] = [];
  private gatheredOn = 0;

  /** @param number distinguishes this run's directory from those of others that the same daemon has seen */
  constructor(target: Target, options: ExecuteOptions, number: number) {
    const directory = runDirectory(number);
    this.target = target;
    this.options = options;
    this.directory = directory;
    this.model = new Model(target.beginning);
    mkdirSync(`${target.base}/${directory}`, 0o700);
    this.model.tree.makeDirectories(directory);
    this.model.known = target.known;
  }

  perform(steps: Sequence): void {
    for (const [index, step] of steps.entries()) {
      this.at = index;
      this.step(step);
    }
    this.at = steps.length;
    this.flush();
    this.judgeEnd();
  }

  /** Closes all connections and lets the target undo the run. */
  end(): void {
    for (const [id, { link }] of this.links) {
      link.close();
      this.model.close(id);
    }
    this.links.clear();
    if (this.target.death() !== null) return;
    this.target.undo(this.model);
  }

  private fail(judge: Problem['judge'], detail: string): never {
    throw new Failure({ judge, step: this.at, detail });
  }

  /** @throws Failure */
  step(step: Step): void {
    if (step.op === 'call' && step.edit === undefined) {
      this.call(step.on, [step]);
      return;
    }
    this.flush();
    switch (step.op) {
      case 'gather':
        this.gathers = true;
        break;
      case 'open':
        this.open(step.on, step.to ?? 'virtlockd');
        break;
      case 'call':
        for (const [index, { bytes, descriptors }] of editMessage(
          this.encode(step.on, step),
          step.edit ?? {},
        ).entries()) {
          if (index > 0 && step.edit?.pause !== undefined) this.target.pause(step.edit.pause);
          this.send(step.on, bytes, descriptors);
        }
        break;
      case 'burst':
        this.send(step.on, Buffer.concat(step.calls.map((call) => this.encode(step.on, call))), 0);
        break;
      case 'reset':
        this.reset(step.on, Buffer.concat(step.calls.map((call) => this.encode(step.on, call))));
        break;
      case 'walk':
        this.walk(step);
        break;
      case 'raw':
        this.send(step.on, Buffer.from(step.hex, 'hex'), 0);
        break;
      case 'finish':
        this.finish(step.on);
        break;
      case 'close':
        this.close(step.on);
        break;
      case 'restart': {
        const wrong = this.target.restart();
        if (wrong !== null) this.fail('restart', wrong);
        break;
      }
      case 'file':
        // From here on the files of model and disk differ if the model is lost.
        changeFiles(this.target.base, this.directory, this.model.tree, step.act, step.name, step.to ?? step.name);
        break;
    }
  }

  private encode(on: number, call: Call): Buffer {
    const resolve: Resolve = (text) => {
      if (text === '@') return this.links.get(on)?.cursor ?? 0n;
      if (text.startsWith('#')) return BigInt(this.links.get(Number(text.slice(1)))?.link.client ?? 0);
      return BigInt(text);
    };
    return encodeCall(call, ++this.serial, this.directory, resolve);
  }

  /** Sends calls, or gathers them. */
  private call(on: number, calls: readonly Call[]): void {
    if (this.gatheredOn !== on || this.gathered.length >= MAX_GATHERED) this.flush();
    this.gatheredOn = on;
    for (const call of calls) this.gathered.push(this.encode(on, call));
    if (!this.gathers) this.flush();
  }

  private flush(): void {
    const [first] = this.gathered;
    if (first === undefined) return;
    const bytes = this.gathered.length === 1 ? first : Buffer.concat(this.gathered);
    this.gathered = [];
    this.send(this.gatheredOn, bytes, 0);
  }

  private open(id: number, server: ServerName): void {
    this.close(id);
    // It would wait in the backlog until another client leaves.
    if (this.model.isFull(server)) return;
    const link = this.target.open(server);
    if (link === null) this.fail('answers-others', this.target.death() ?? 'no connection can be made');
    const connection = this.model.open(id, this.target.peer, server, link.client);
    const isKnown = this.target.beginning.noticesAtOnce;
    this.links.set(id, { link, connection, received: NOTHING, ended: false, isKnown, last: NOTHING, cursor: 0n });
    if (!isKnown) this.introduce();
  }

  /** A real daemon may serve a client before it accepts an earlier one. An admin client must find all of them. */
  private introduce(): void {
    if (![...this.links.values()].some(({ connection }) => connection.server.name === 'admin')) return;
    for (const [id, { isKnown, connection }] of this.links) {
      if (isKnown) continue;
      if (connection.stream.isEmpty) this.send(id, PING, 0);
      else this.close(id);
    }
  }

  private close(id: number): void {
    const open = this.links.get(id);
    if (open === undefined) return;
    open.link.close();
    this.links.delete(id);
    this.model.close(id);
  }

  private finish(id: number): void {
    const open = this.links.get(id);
    if (open === undefined || open.ended) return;
    open.link.finish();
    this.model.close(id);
    this.expect(open, { kind: 'closed' });
  }

  private send(id: number, bytes: Buffer, descriptors: number): void {
    const open = this.links.get(id);
    if (open === undefined || open.ended || bytes.length === 0) return;
    const expected = this.model.receive(id, bytes, descriptors > 0);
    open.link.send(bytes, descriptors);
    this.calls += expected.length;
    for (const one of expected) this.expect(open, one);
    this.expectEnds();
    if (this.target.patience === 0) this.expectSilence(open);
  }

  /** Expects the ends of connections that the daemon was asked to close. */
  private expectEnds(): void {
    for (const id of this.model.ended.splice(0)) {
      const open = this.links.get(id);
      if (open !== undefined && !open.ended) this.expect(open, { kind: 'closed' });
    }
  }

  /** Sends calls and closes without reading replies. They change nothing that outlasts the connection: any number may be served. */
  private reset(id: number, bytes: Buffer): void {
    const open = this.links.get(id);
    // Not behind half a message, which they would complete.
    if (open !== undefined && !open.ended && open.connection.stream.isEmpty) open.link.send(bytes, 0);
    this.close(id);
  }

  private walk({ on, list, filter = {}, limit }: Extract<Step, { op: 'walk' }>): void {
    const entries: string[] = [];
    let cursor = 0n;
    for (let pages = 0; pages < MAX_PAGES; pages++) {
      const page = this.page(on, list, { filter, cursor: cursor.toString(), limit, flags: 0 });
      if (page === null) return;
      entries.push(...page.entries);
      cursor = page.next;
      if (cursor !== 0n) continue;
      const wrong = judgeList(list, entries, this.model.knowledge, filterOfStep(filter, this.directory));
      if (wrong !== null && this.options.judged) this.fail('reply', wrong);
      return;
    }
    this.fail('reply', `a list of ${list} without an end`);
  }

  /** A page of a list; null when the answer has none. */
  private page(on: number, list: ListName, args: Call['args']): Page | null {
    const open = this.links.get(on);
    // Not behind half a message, which the call would complete.
    if (open === undefined || open.ended || !open.connection.stream.isEmpty) return null;
    open.last = NOTHING;
    this.send(on, this.encode(on, { program: 'inquire', call: list, args }), 0);
    const { last } = open;
    if (last.length < 28 || last.readUInt32BE(24) !== SUCCESS) return null;
    const page = parsePage(list, new Words(last, 28));
    open.cursor = page.next;
    return page;
  }

  /** In one process all replies are there by now. */
  private expectSilence(open: Open): void {
    if (open.ended) return;
    const more = this.next(open, 0);
    if (more === 'closed') this.fail('reply', 'the connection was closed for no reason');
    if (more !== null || open.received.length > 0) this.fail('reply', 'more replies than calls');
  }

  /** The next message that is no event, `closed`, or null when nothing comes. */
  private next(open: Open, patience = this.target.patience): Buffer | 'closed' | null {
    for (;;) {
      const length = open.received.length < 4 ? Infinity : open.received.readUInt32BE(0);
      if (length < 28 || (length > 1 << 20 && length !== Infinity)) {
        this.fail('reply', `a reply with a length of ${length}`);
      }
      const message = this.take(open, length, patience);
      if (!Buffer.isBuffer(message)) return message;
      if (message.length === 0) continue;
      if (open.connection.server.name === 'virtlockd' || !isEvent(message)) return message;
      this.event(open, message);
    }
  }

  /** Takes `length` bytes. Empty: more bytes have come, try again; null: nothing comes. */
  private take(open: Open, length: number, patience: number): Buffer | 'closed' | null {
    if (open.received.length >= length) {
      const bytes = open.received.subarray(0, length);
      open.received = open.received.subarray(length);
      return bytes;
    }
    const more = open.link.receive(patience);
    if (more === null) return null;
    if (more === 'closed') {
      open.ended = true;
      if (open.received.length > 0) this.fail('reply', `half a reply: ${open.received.toString('hex')}`);
      return 'closed';
    }
    open.received = open.received.length === 0 ? more : Buffer.concat([open.received, more]);
    return NOTHING;
  }

  private event(open: Open, message: Buffer): void {
    const wrong = countEvent(message, open.connection.reported);
    if (wrong !== null) this.fail('events', wrong);
  }

  private expect(open: Open, expected: Expected): void {
    const got = this.next(open);
    if (Buffer.isBuffer(got)) {
      open.last = got;
      open.isKnown = true;
    }
    this.transcript.push(`${this.at}: ${this.heard(got, expected)}`);
    if (got === null || (got === 'closed' && expected.kind !== 'closed')) {
      if (expected.kind === 'closed' && !this.options.judged) return;
      const death = this.target.death();
      if (death !== null) this.fail('alive', death);
      if (this.options.judged)
        this.fail('reply', got === null ? `no answer, where ${expected.kind} was due` : 'closed instead of answered');
      return;
    }
    if (got === 'closed') {
      open.ended = true;
      return;
    }
    if (!this.options.judged) {
      this.tail(open, expected);
      return;
    }
    const wrong = mismatch(got, expected) ?? this.tail(open, expected);
    if (wrong !== null) this.fail('reply', wrong);
  }

  /** The line of the transcript for an answer. */
  private heard(got: Buffer | 'closed' | null, expected: Expected): string {
    if (!Buffer.isBuffer(got)) return got ?? 'nothing';
    const compared = 'compared' in expected ? (expected.compared ?? 'bytes') : 'bytes';
    const status = got.readUInt32BE(24);
    if (compared === 'nothing') return 'a reply';
    return compared === 'status' && status === SUCCESS ? 'success' : got.toString('latin1');
  }

  /** Checks the data bytes of a call's descriptors, which come back behind some errors. */
  private tail(open: Open, expected: Expected): string | null {
    let left = 'tail' in expected ? (expected.tail ?? 0) : 0;
    while (left > 0) {
      const got = this.take(open, 1, this.target.patience);
      if (!Buffer.isBuffer(got)) return `${left} of the data bytes do not come back`;
      if (got.length === 0) continue;
      if (got[0] !== 0) return 'another byte than the data byte of a descriptor comes back';
      left--;
    }
    return null;
  }

  /** Compares the daemon with the model. @throws Failure */
  judgeEnd(): void {
    const byNewcomer = this.options.thorough && !this.model.isFull('virtlockd');
    if (!this.target.answers(byNewcomer)) this.fail('answers-others', this.target.death() ?? 'a ping is not answered');
    if (!this.options.judged || this.model.lost) return;

    const expected = this.model.tree.listing();
    const found = listing(this.target.base);
    if (expected.join('\n') !== found.join('\n')) {
      this.fail('files', `found ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`);
    }
    this.judgeEvents();
    if (this.options.thorough) this.judgeLocks();
  }

  /** Checks that subscribers got every change. */
  private judgeEvents(): void {
    const subscribed = [...this.links.values()].filter(
      ({ ended, connection }) => !ended && connection.subscription !== null,
    );
    if (subscribed.length === 0) return;
    const patience = this.target.flushEvents() ? 0 : EVENTS_PATIENCE;
    if (patience > 0 && !this.options.thorough) return;
    for (const open of subscribed) {
      const { subscription, reported } = open.connection;
      const areAllReported = (): boolean =>
        reported.acquired === subscription?.acquired && reported.released === subscription.released;
      if (patience === 0) this.expectSilence(open);
      for (const until = performance.now() + patience; !areAllReported() && performance.now() < until;)
        this.next(open, 50);
      if (!areAllReported())
        this.fail('events', `events report ${JSON.stringify(reported)}, not ${JSON.stringify(subscription)}`);
    }
  }

  /**
   * The kernel must have the model's locks for this process, and no others on that device. The kernel hands its table out in
   * parts, and leaves rows out while others lock: only a row that stays missing counts.
   */
  private judgeLocks(): void {
    const wanted = new Map<object, boolean>();
    for (const { file, flags } of this.model.held()) wanted.set(file, (flags & 1) !== 0);
    const kinds = (shared: boolean): number => [...wanted.values()].filter((one) => one === shared).length;
    const model = `${kinds(false)} write and ${kinds(true)} read locks`;
    let kernel = '';
    for (let attempt = 0; attempt < LOCK_READINGS; attempt++) {
      kernel = this.kernelLocks();
      if (kernel === model) return;
    }
    this.fail('locks', `the kernel has ${kernel}, the model ${model}`);
  }

  private kernelLocks(): string {
    const device = lstatSync(this.target.base).dev;
    // By inode, because a row may come twice.
    const rows = new Map<bigint, string>();
    for (const row of recordLocksOf(this.target.pid)) {
      if (!isOnDevice(row, device)) continue;
      if (row.start !== 0n || row.end !== 0n) return `a lock of bytes ${row.start} ${row.end ?? 'EOF'}`;
      rows.set(row.inode, row.access);
    }
    const writes = [...rows.values()].filter((access) => access === 'WRITE').length;
    return `${writes} write and ${rows.size - writes} read locks`;
  }
}

/** @param number distinguishes this run's directory from those of others that the same daemon has seen */
export function execute(steps: Sequence, target: Target, options: ExecuteOptions, number = 0): Outcome {
  const run = new Run(target, options, number);
  let problem: Problem | null = null;
  try {
    run.perform(steps);
  } catch (error) {
    if (error instanceof Failure) problem = error.problem;
    else
      problem = {
        judge: 'exception',
        step: -1,
        detail: error instanceof Error ? (error.stack ?? error.message) : String(error),
      };
  }
  run.end();
  return { problem, calls: run.calls, transcript: run.transcript };
}
