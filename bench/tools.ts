/** The benchmark's own C programs, compiled on first use, and the interface of the load generator. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { compile } from '../src/lab/compile.ts';
import { checkout } from '../src/lab/trees.ts';
import { descriptorLimits } from '../src/proc/limits.ts';

const sources = join(checkout, 'bench/native');
const build = join(checkout, 'dist/bench');

const programs = {
  load: ['load.c', 'rates.c', 'events.c', 'peers.c', 'measure.c', 'wire.c'],
  floor: ['floor.c', 'wire.c'],
  start: ['start.c', 'measure.c', 'wire.c'],
} as const;
type Tool = keyof typeof programs;

/** The path of a compiled tool. */
export const toolPath = (tool: Tool): string => join(build, tool);

/** Compiles programs that are missing or older than their sources. @throws Error with the compiler's output */
export function compileTools(): void {
  for (const [tool, files] of Object.entries(programs)) {
    compile(
      join(build, tool),
      files.map((file) => join(sources, file)),
    );
  }
}

/** The most descriptors that a process can have here. */
export function descriptorLimit(): number {
  const { hard } = descriptorLimits('self');
  return Number.isFinite(hard) ? hard : 1024;
}

/** On which processors the daemon's main thread and the load generator run: two different ones, the same, or any. */
export type Placement = 'apart' | 'together' | 'free';

/** The load generator's figures, by the names that native/measure.c prints. Waits are in µs. */
export type Answer = Readonly<Record<string, number>>;

/** A number of an answer. @throws Error when the generator did not print it. */
export function figure(answer: Answer, name: string): number {
  const value = answer[name];
  if (value === undefined) throw new Error(`the load generator printed no ${name}`);
  return value;
}

/** A running load generator for one daemon. It runs one command at a time. */
export class Load {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  constructor(daemon: { socket: string; directory: string; pid: number }, placement: Placement) {
    this.#child = spawn(toolPath('load'), [daemon.socket, daemon.directory, String(daemon.pid), placement]);
    this.#child.stderr.pipe(process.stderr);
    this.#child.stdin.on('error', () => undefined);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Runs a command (native/load.c lists them). @throws Error when a reply of the daemon was wrong or missing. */
  async ask(command: string): Promise<Answer> {
    this.#child.stdin.write(`${command}\n`);
    const line = await this.#lines.next();
    if (line.done === true) throw new Error(`${command}: the load generator has ended`);
    const answer = JSON.parse(line.value) as Record<string, number> & { error?: string };
    if (answer.error !== undefined) throw new Error(`${command}: ${answer.error}`);
    return answer;
  }

  /** Ends the generator, and so all its connections. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin.end();
    await closed;
  }
}
