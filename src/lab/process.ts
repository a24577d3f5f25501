/** A process a test started: its output, its end, and bounded waiting. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

export interface Finished {
  /** Exit status, or null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Streams {
  /** A file (outside path) that standard output and error are appended to; default: they are collected. */
  output?: string | undefined;
  /** Written to standard input, which then ends. Default: no input. */
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

  /** @throws Error when the program could not be started at all. */
  constructor(child: ChildProcess, label: string, file?: string) {
    if (child.pid === undefined) throw new Error(`cannot start ${label}`);
    this.pid = child.pid;
    this.#file = file;
    child.stdout?.on('data', (data: Buffer) => (this.#stdout += data.toString('latin1')));
    child.stderr?.on('data', (data: Buffer) => (this.#stderr += data.toString('latin1')));
    // 'exit', when output goes to pipes, can come before the last of it; 'close' waits for pipes that a grandchild may hold open.
    this.exited = new Promise((resolve) => {
      child.once(file === undefined ? 'close' : 'exit', (code: number | null, signal: NodeJS.Signals | null) => {
        this.#finished = { code, signal, stdout: this.#stdout, stderr: this.#stderr };
        resolve(this.#finished);
      });
    });
  }

  /** @throws Error when the program could not be started at all. */
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

  /** All it has printed so far, both streams. */
  get output(): string {
    return this.#file === undefined ? this.#stdout + this.#stderr : readFileSync(this.#file, 'latin1');
  }

  /** Sends a signal, to this pid alone. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    if (this.#finished === undefined) process.kill(this.pid, signal);
  }

  /** Sends a signal and waits for the end, for at most `limit` ms; then SIGKILL. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', limit = 10_000): Promise<Finished> {
    this.kill(signal);
    const late = setTimeout(() => {
      this.kill('SIGKILL');
    }, limit);
    const finished = await this.exited;
    clearTimeout(late);
    return finished;
  }
}

/** Tells the program that a process executes from the next: the kernel puts another random address there at every exec. */
export function programImage(pid: number): string {
  return readFileSync(`/proc/${pid}/auxv`, 'latin1');
}

/** SIGUSR1 in the masks of /proc/PID/status. */
const USER_SIGNAL = 1n << 9n;

/** Whether it is a daemon that listens for SIGUSR1, and not a launcher on the way to one: a shell may listen as well. */
function heedsUserSignal(pid: number): boolean {
  if (/\/(?:ba|da)?sh$/.test(readlinkSync(`/proc/${pid}/exe`))) return false;
  const mask = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  return (BigInt(`0x${mask ?? '0'}`) & USER_SIGNAL) !== 0n;
}

/**
 * Sends SIGUSR1 and waits until the process has executed its program file anew, and would do so again: a launcher may come in
 * between. What is asked before that, C may leave unanswered.
 * @param alive a probe that throws when waiting longer cannot help
 * @throws Error when that does not come within `limit` ms, or the process is gone
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
 * Asks again until the probe has an answer (anything but undefined or false), where the kernel offers no event to wait for.
 * @param limit in ms
 * @throws Error naming `what`, and the probe's last error if it threw, when there is none in time.
 */
export async function eventually<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  limit = 10_000,
): Promise<T> {
  const end = performance.now() + limit;
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
      throw new Error(`not within ${limit} ms: ${what}${error instanceof Error ? `: ${error.message}` : ''}`);
    }
    await pause(10);
  }
}
