/** Runs a sequence against a target and judges what comes back. */
import { lstatSync, mkdirSync } from 'node:fs';
import { locksOf } from '../../test/lab/observe.ts';
import { Model } from './model.ts';
import { type Expected, mismatch } from './model-wire.ts';
import { encodeCall, encodeEdited, type Sequence, type Step } from './steps.ts';
import type { Link, Target } from './target.ts';
import { changeFiles, listing } from './world.ts';

/** What a judge found wrong. */
export interface Problem {
  readonly judge:
    'alive' | 'reply' | 'answers-others' | 'files' | 'locks' | 'descriptors' | 'memory' | 'restart' | 'exception';
  readonly step: number;
  readonly detail: string;
}

export interface Outcome {
  readonly problem: Problem | null;
  /** Messages that were answered. */
  readonly calls: number;
  /** All that came back, in order, as one line each: what two daemons are compared by. */
  readonly transcript: readonly string[];
}

export interface ExecuteOptions {
  /** Whether replies are judged by the model; else it only says how many are to come. */
  readonly judged: boolean;
  /** Also compare the kernel's locks with the model. */
  readonly checkLocks: boolean;
}

/** How often the kernel's table is read before a lock counts as missing. */
const LOCK_READINGS = 20;

/** Thrown where a judge objects. */
export class Failure extends Error {
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

/** The directory of a run: always as long, so that the same sequence is always the same bytes but for a number. */
function runDirectory(number: number): string {
  return `q${String(number % 1_000_000).padStart(6, '0')}`;
}

interface Open {
  readonly link: Link;
  received: Buffer;
  ended: boolean;
}

/** One run: a model and a daemon side by side. */
export class Run {
  readonly model = new Model();
  readonly transcript: string[] = [];
  calls = 0;
  private readonly target: Target;
  private readonly options: ExecuteOptions;
  private readonly links = new Map<number, Open>();
  private readonly directory: string;
  private serial = 0;
  private at = 0;

  /** @param number tells this run's directory from those of others that the same daemon has seen */
  constructor(target: Target, options: ExecuteOptions, number: number) {
    const directory = runDirectory(number);
    this.target = target;
    this.options = options;
    this.directory = directory;
    mkdirSync(`${target.base}/${directory}`, 0o700);
    this.model.tree.makeDirectories(directory);
    for (const path of target.known) this.model.lockspaces.set(path, new Map());
  }

  perform(steps: Sequence): void {
    for (const [index, step] of steps.entries()) {
      this.at = index;
      this.step(step);
    }
    this.at = steps.length;
    this.judgeEnd();
  }

  /** Closes all connections, and has the target give up what is still held by then. */
  end(): void {
    for (const [id, { link }] of this.links) {
      link.close();
      this.model.close(id);
    }
    this.links.clear();
    if (this.target.death() !== null) return;
    const held = [...this.model.held()].map(({ lockspace, name, owners }) => ({
      lockspace,
      name,
      owners: [...owners],
    }));
    this.target.settle(held, [...this.model.lockspaces.keys()]);
  }

  private fail(judge: Problem['judge'], detail: string): never {
    throw new Failure({ judge, step: this.at, detail });
  }

  /** @throws Failure */
  step(step: Step): void {
    switch (step.op) {
      case 'open':
        this.open(step.on);
        break;
      case 'call': {
        const { on, call, args, edit } = step;
        const serial = ++this.serial;
        if (edit === undefined) this.send(on, encodeCall(call, args, serial, this.directory), 0);
        else {
          for (const { bytes, descriptors } of encodeEdited(call, args, serial, this.directory, edit)) {
            this.send(on, bytes, descriptors);
          }
        }
        break;
      }
      case 'burst':
        this.send(
          step.on,
          Buffer.concat(step.calls.map(({ call, args }) => encodeCall(call, args, ++this.serial, this.directory))),
          0,
        );
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
        // The model's and the disk's files part ways once the model is lost.
        changeFiles(this.target.base, this.directory, this.model.tree, step.act, step.name, step.to ?? step.name);
        break;
    }
  }

  private open(id: number): void {
    this.close(id);
    const link = this.target.open();
    if (link === null) this.fail('answers-others', this.target.death() ?? 'no connection can be made');
    this.links.set(id, { link, received: Buffer.alloc(0), ended: false });
    this.model.open(id, this.target.peer);
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
    if (this.target.patience === 0) this.expectSilence(open);
  }

  /** In one process everything has come by now. */
  private expectSilence(open: Open): void {
    if (open.ended) return;
    const more = open.link.receive(0);
    if (more === 'closed') this.fail('reply', 'the connection was closed for no reason');
    if (more !== null || open.received.length > 0) this.fail('reply', 'more replies than calls');
  }

  /** The next message, `closed`, or null when nothing comes. */
  private next(open: Open): Buffer | 'closed' | null {
    for (;;) {
      const length = open.received.length < 4 ? Infinity : open.received.readUInt32BE(0);
      if (length < 28 || (length > 1 << 20 && length !== Infinity)) {
        this.fail('reply', `a reply with a length of ${length}`);
      }
      if (open.received.length >= length) {
        const message = open.received.subarray(0, length);
        open.received = open.received.subarray(length);
        return message;
      }
      const more = open.link.receive(this.target.patience);
      if (more === null) return null;
      if (more === 'closed') {
        open.ended = true;
        if (open.received.length > 0) this.fail('reply', `half a reply: ${open.received.toString('hex')}`);
        return 'closed';
      }
      open.received = open.received.length === 0 ? more : Buffer.concat([open.received, more]);
    }
  }

  private expect(open: Open, expected: Expected): void {
    const got = this.next(open);
    this.transcript.push(
      got === null || got === 'closed' ? `${this.at}: ${got ?? 'nothing'}` : `${this.at}: ${got.toString('latin1')}`,
    );
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
    if (!this.options.judged) return;
    const wrong = mismatch(got, expected);
    if (wrong !== null) this.fail('reply', wrong);
  }

  /** Whether all is as the model has it. @throws Failure */
  judgeEnd(): void {
    const probe = this.target.open();
    if (probe === null) this.fail('answers-others', this.target.death() ?? 'no connection can be made');
    const ping = Buffer.alloc(28);
    for (const [index, word] of [28, 0x6b656570, 1, 1, 2, 0, 0].entries()) ping.writeUInt32BE(word, index * 4);
    probe.send(ping, 0);
    const pong = probe.receive(this.target.patience);
    probe.close();
    if (!Buffer.isBuffer(pong)) this.fail('answers-others', this.target.death() ?? 'a ping is not answered');
    if (!this.options.judged || this.model.lost) return;

    const expected = this.model.tree.listing();
    const found = listing(this.target.base);
    if (expected.join('\n') !== found.join('\n')) {
      this.fail('files', `found ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`);
    }
    if (this.options.checkLocks) this.judgeLocks();
  }

  /**
   * What the model holds is what the kernel has locked for this process, and nothing else on that device. The kernel hands
   * its table out in parts, and leaves rows out while others lock: what is missing is looked for again, for it stays missing.
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
    const { dev } = lstatSync(this.target.base);
    const device = `${(dev >> 8).toString(16).padStart(2, '0')}:${(dev & 0xff).toString(16).padStart(2, '0')}`;
    const rows = locksOf(this.target.pid).filter((row) => row.device === device);
    const odd = rows.find(({ start, end }) => start !== 0 || end !== 0);
    if (odd !== undefined) return `a lock from ${odd.start} to ${odd.end}`;
    const writes = rows.filter(({ access }) => access === 'WRITE').length;
    return `${writes} write and ${rows.length - writes} read locks`;
  }
}

/** @param number tells this run's directory from those of others that the same daemon has seen */
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
