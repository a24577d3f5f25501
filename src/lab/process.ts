/** A process that a test started: its output, its end, and bounded waiting. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { catchesSignal, imageOf, programOf } from '../proc/processes.ts';
import { patient } from './patience.ts';

export interface Finished {
  /** Exit status, or null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Streams {
  /** A file (outside path) for standard output and error, which are appended; default: they are collected. */
  output?: string | undefined;
  /** Standard input; default: none. */
  input?: string | undefined;
}

export class Running {
  readonly pid: number;
  /** Settles when the process has ended; never rejects. */
  readonly exited: Promise<Finished>;
  #finished: Finished | undefined;
  #stdout = '';
  #stderr = '';
  readonly #file: string | undefined;

  /** @throws Error when the program could not be started. */
  constructor(child: ChildProcess, label: string, file?: string) {
    if (child.pid === undefined) throw new Error(`cannot start ${label}`);
    this.pid = child.pid;
    this.#file = file;
    child.stdout?.on('data', (data: Buffer) => (this.#stdout += data.toString('latin1')));
    child.stderr?.on('data', (data: Buffer) => (this.#stderr += data.toString('latin1')));
    // With pipes, 'exit' can come before the last output. With a file, 'close' would wait for a grandchild's descriptors.
    this.exited = new Promise((resolve) => {
      child.once(file === undefined ? 'close' : 'exit', (code: number | null, signal: NodeJS.Signals | null) => {
        this.#finished = { code, signal, stdout: this.#stdout, stderr: this.#stderr };
        resolve(this.#finished);
      });
    });
  }

  /** @throws Error when the program could not be started. */
  static start(
    [program = '', ...args]: readonly string[],
    surroundings: { readonly env: Readonly<Record<string, string>>; readonly cwd?: string },
    { output, input }: Streams,
  ): Running {
    const sink = output === undefined ? 'pipe' : openSync(output, 'a', 0o644);
    try {
      const stdio = [input === undefined ? 'ignore' : 'pipe', sink, sink] as const;
      const child = spawn(program, args, { ...surroundings, stdio: [...stdio] });
      child.on('error', () => undefined);
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
      return new Running(child, [program, ...args].join(' '), output);
    } finally {
      if (typeof sink === 'number') closeSync(sink);
    }
  }

  /** How it ended, or undefined while it runs. */
  get finished(): Finished | undefined {
    return this.#finished;
  }

  /** Its output so far, of both streams. */
  get output(): string {
    return this.#file === undefined ? this.#stdout + this.#stderr : readFileSync(this.#file, 'latin1');
  }

  /** Sends a signal, to this pid alone. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    if (this.#finished === undefined) process.kill(this.pid, signal);
  }

  /** Sends a signal and waits for the end, for at most `limit` ms (see patience.ts); then SIGKILL. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', limit = 10_000): Promise<Finished> {
    this.kill(signal);
    const late = setTimeout(() => this.kill('SIGKILL'), patient(limit));
    const finished = await this.exited;
    clearTimeout(late);
    return finished;
  }
}

/** See {@link imageOf}. @throws Error when it has ended */
export function programImage(pid: number): string {
  const image = imageOf(pid);
  if (image === undefined) throw new Error(`process ${pid} has ended`);
  return image;
}

/** Whether the process is a daemon that catches SIGUSR1, and not a shell that launches one: a shell may catch it too. */
function heedsUserSignal(pid: number): boolean {
  return !/\/(?:ba|da)?sh$/.test(programOf(pid)) && catchesSignal(pid, 'SIGUSR1');
}

/**
 * Sends SIGUSR1 and waits until the process has executed its program again and catches SIGUSR1: a launcher may come in between.
 * C may leave earlier calls unanswered.
 * @param alive a probe that throws when waiting longer cannot help
 * @throws Error after `limit` ms, or when the process is gone
 */
export async function executeAgain(pid: number, limit = 10_000, alive: () => void = () => undefined): Promise<void> {
  const before = programImage(pid);
  process.kill(pid, 'SIGUSR1');
  const changed = (): boolean => {
    alive();
    return programImage(pid) !== before && heedsUserSignal(pid);
  };
  await eventually('the process has executed its program again', changed, limit);
}

/** Thrown by a probe of `eventually` when waiting longer cannot help. */
export class GivenUp extends Error {}

/**
 * Repeats the probe until it has an answer (not undefined or false), where the kernel offers no event to wait for.
 * @param limit in ms; see patience.ts
 * @throws Error after the limit, with `what` and the probe's last error
 */
export async function eventually<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  limit = 10_000,
): Promise<T> {
  const longest = patient(limit);
  const end = performance.now() + longest;
  for (;;) {
    let error: unknown;
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer;
    } catch (caught) {
      if (caught instanceof GivenUp) throw caught;
      error = caught;
    }
    if (performance.now() > end) {
      throw new Error(`not within ${longest} ms: ${what}${error instanceof Error ? `: ${error.message}` : ''}`);
    }
    await pause(10);
  }
}
