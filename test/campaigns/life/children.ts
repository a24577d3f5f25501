/** The native programs of this folder, as children that print lines of JSON. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { compile } from '../../../src/lab/compile.ts';
import { checkout } from '../../../src/lab/trees.ts';

const programs = {
  writer: ['test/campaigns/life/native/writer.c', 'bench/native/wire.c'],
  rivals: ['test/campaigns/life/native/rivals.c', 'bench/native/wire.c'],
  'hung-fs': ['test/campaigns/life/native/hung-fs.c'],
} as const;
type Program = keyof typeof programs;

const pathOf = (program: Program): string => join(checkout, 'build/life', program);

/** @throws Error when the compiler fails */
export function compilePrograms(): void {
  for (const [program, files] of Object.entries(programs)) {
    compile(
      pathOf(program as Program),
      files.map((file) => join(checkout, file)),
    );
  }
}

/** For whatever must come, in ms: far more than it takes. */
export const PATIENCE = 20_000;

/** A line of a child's output: its kind and time; the other fields depend on the kind. */
export interface Line {
  readonly is: string;
  /** CLOCK_MONOTONIC in ns. */
  readonly at: number;
}

/** The clock of the children's times, in ns. */
export const now = (): number => Number(process.hrtime.bigint());

export class Child<L extends Line = Line> {
  readonly pid: number;
  readonly lines: L[] = [];
  /** Settles when the process itself has ended; a helper of its own may live on. */
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;
  readonly #commands: Writable;
  readonly #helperCommands: Writable;
  readonly #label: string;
  #hasEnded = false;
  #watchers: (() => void)[] = [];

  constructor(program: Program, args: readonly string[]) {
    const child = spawn(pathOf(program), args, { stdio: ['pipe', 'pipe', 'inherit', 'pipe'] });
    if (child.pid === undefined) throw new Error(`cannot start ${pathOf(program)}`);
    const [commands, output, , helperCommands] = child.stdio as unknown as [Writable, Readable, null, Writable];
    this.#child = child;
    this.#commands = commands;
    this.#helperCommands = helperCommands;
    this.#label = program;
    this.pid = child.pid;
    for (const stream of [commands, helperCommands]) stream.on('error', () => undefined);
    createInterface({ input: output }).on('line', (text) => {
      this.lines.push(JSON.parse(text) as L);
      this.#notify();
    });
    this.exited = new Promise((resolve) => {
      child.once('exit', () => {
        resolve();
        this.#hasEnded = true;
        this.#notify();
      });
    });
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  tell(command: string): void {
    this.#commands.write(`${command}\n`);
  }

  /** Commands for a process that the child has forked. */
  tellHelper(command: string): void {
    this.#helperCommands.write(`${command}\n`);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /**
   * The first answer of the probe that is not undefined; it is asked again after every line, and when the child has ended.
   * Undefined when none has come after `limit` ms.
   */
  async until<T>(probe: () => T | undefined, limit = PATIENCE): Promise<T | undefined> {
    const end = performance.now() + limit;
    for (;;) {
      const found = probe();
      const left = end - performance.now();
      if (found !== undefined || left <= 0) return found;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#watchers.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** The first line of that kind. @throws Error when the child ends instead, or fails, or takes more than `limit` ms */
  async line(is: L['is'], limit = PATIENCE): Promise<L> {
    const found = await this.until(() => {
      const line = this.lines.find((one) => one.is === is);
      return line ?? (this.#hasEnded || this.failure !== undefined ? null : undefined);
    }, limit);
    if (found === null || found === undefined) {
      throw new Error(
        `${this.#label}: no "${is}"${found === null ? '' : ` within ${limit} ms`}: ${this.failure ?? ''}`,
      );
    }
    return found;
  }

  /** Its error messages. */
  get failure(): string | undefined {
    return (this.lines as readonly { error?: string }[]).find(({ error }) => error !== undefined)?.error;
  }

  /** Ends its input, upon which it ends. */
  async end(): Promise<void> {
    this.#commands.end();
    await this.exited;
  }

  /** Ends it, in whatever state it is, and its helper. */
  async stop(): Promise<void> {
    this.#commands.end();
    this.#helperCommands.end();
    this.kill('SIGKILL');
    await this.exited;
  }

  #notify(): void {
    for (const watcher of this.#watchers.splice(0)) watcher();
  }
}
