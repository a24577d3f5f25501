/** Lists the system calls of a daemon and has one fail, by tracer.c. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { eventually } from '../../../src/lab/process.ts';
import { onPath } from '../../../src/lab/requirements.ts';

export type ErrorName = keyof typeof constants.errno;

/** A call that is to fail. */
export interface Injection {
  /** `ROLE NAME TARGET`, as tracer.c makes it. */
  readonly key: string;
  /** Which of the calls with this key, from 1. */
  readonly nth: number;
  readonly error: ErrorName;
  /** Whether the call is carried out all the same, and only its result is lost. */
  readonly after: boolean;
}

/** What happened between {@link Tracer.arm} and {@link Tracer.stop}. */
export interface Seen {
  /** Whether the call that was to fail was made. */
  readonly fired: boolean;
  /** Keys of the calls, in order, if they were asked for. */
  readonly calls: readonly string[];
  /** The signals that traced processes sent or tried to send. */
  readonly signals: readonly { readonly signal: number; readonly pid: number }[];
}

/** Why nothing can be traced here, or undefined. */
export function missingTracer(): string | undefined {
  if (process.arch !== 'x64') return 'the tracer knows the registers of x86-64 only';
  return onPath('cc') ? undefined : 'cc is not installed (package gcc)';
}

/** Builds the tracer into a directory, and returns its path. */
export function buildTracer(directory: string): string {
  const program = join(directory, 'tracer');
  const source = join(import.meta.dirname, 'tracer.c');
  execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-pthread', '-o', program, source], { stdio: 'pipe' });
  return program;
}

export class Tracer {
  readonly #process: ChildProcess;
  #calls: string[] = [];
  #signals: { signal: number; pid: number }[] = [];
  #fired = false;
  #answer: (() => void) | undefined;
  #gone = false;

  private constructor(tracer: ChildProcess) {
    this.#process = tracer;
    if (tracer.stdout === null) throw new Error('no output');
    createInterface({ input: tracer.stdout }).on('line', (line) => {
      this.#take(line.split('\t'));
    });
    tracer.stdin?.on('error', () => undefined);
    tracer.on('exit', () => {
      this.#gone = true;
      this.#resume();
    });
  }

  /**
   * Traces a process that was started by `tracer exec`.
   *
   * @param script the script of the runtime, as it is called in keys
   * @param names names of directories in keys, by their paths
   */
  static async attach(
    program: string,
    pid: number,
    script: string,
    names: Readonly<Record<string, string>>,
  ): Promise<Tracer> {
    await eventually('the program waits for the tracer', () =>
      /^State:\tT/m.test(readFileSync(`/proc/${pid}/status`, 'latin1')),
    );
    const prefixes = Object.entries(names).map(([directory, name]) => `${directory}=${name}`);
    return new Tracer(
      spawn(program, ['trace', String(pid), script, ...prefixes], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
  }

  /** Counts calls from here on, and fails one, if one is given. `show`: the calls are asked for. */
  async arm(injection?: Injection, show = false): Promise<void> {
    this.#calls = [];
    this.#signals = [];
    this.#fired = false;
    const { key, nth, error, after } = injection ?? {};
    const fields = error === undefined ? [] : [nth, constants.errno[error], after === true ? 'after' : 'before', key];
    await this.#order(['arm', show ? 1 : 0, ...fields].join('\t'));
  }

  async stop(): Promise<Seen> {
    await this.#order('stop');
    return { fired: this.#fired, calls: this.#calls, signals: this.#signals };
  }

  /** Ends the tracer, and with it the traced. */
  close(): void {
    this.#process.stdin?.end();
  }

  async #order(line: string): Promise<void> {
    if (this.#gone) return;
    await new Promise<void>((resolve) => {
      this.#answer = resolve;
      this.#process.stdin?.write(`${line}\n`);
    });
  }

  #take([kind, first = '', second = '']: readonly string[]): void {
    if (kind === 'call') this.#calls.push(first);
    else if (kind === 'signal') this.#signals.push({ signal: Number(first), pid: Number(second) });
    else if (kind === 'fails') this.#fired = true;
    else if (kind === 'armed' || kind === 'end') this.#resume();
  }

  #resume(): void {
    this.#answer?.();
    this.#answer = undefined;
  }
}
