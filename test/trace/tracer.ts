/** bin/virtlockd-trace at work between a daemon and clients. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, GivenUp } from '../lab/process.ts';
import { checkout } from '../lab/root.ts';

export const program = join(checkout, 'bin/virtlockd-trace');

export function missingTrace(): string | undefined {
  return existsSync(join(checkout, 'dist/virtlockd-trace.cjs'))
    ? undefined
    : 'bin/virtlockd-trace is not built (npm run build)';
}

/** A line of `--json`, as far as tests look at it. */
export interface Line {
  time: string;
  connection: number;
  kind: 'open' | 'close' | 'message' | 'undecoded' | 'descriptors' | 'end' | 'note';
  peer: { pid?: number; uid?: number; gid?: number; program?: string };
  from?: 'client' | 'daemon';
  form?: string;
  name?: string;
  serial?: number;
  length?: number;
  arguments?: Record<string, unknown>;
  result?: unknown;
  payload?: unknown;
  error?: Record<string, unknown>;
  tookMicros?: number;
  descriptors?: number;
  count?: number;
  text?: string;
  undecoded?: { reason: string; hex: string };
}

export class Tracer {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  #output = '';
  #errors = '';

  private constructor(args: readonly string[]) {
    this.child = spawn(program, [...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout?.on('data', (data: Buffer) => (this.#output += data.toString()));
    this.child.stderr?.on('data', (data: Buffer) => (this.#errors += data.toString()));
    this.ended = new Promise((resolve) => this.child.once('close', resolve));
  }

  /** Starts it and waits until it listens. */
  static async start(...args: readonly string[]): Promise<Tracer> {
    const tracer = new Tracer(args);
    await eventually('virtlockd-trace listens', () => {
      if (tracer.child.exitCode !== null) throw new GivenUp(tracer.errors);
      return tracer.errors.includes('the daemon sees');
    });
    return tracer;
  }

  get errors(): string {
    return this.#errors;
  }

  get lines(): Line[] {
    return this.#output
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line);
  }

  /** The lines once they are as many, or as they should be. */
  async until(what: string, isThere: (lines: Line[]) => boolean): Promise<Line[]> {
    return eventually(`${what} in ${this.#output}`, () => (isThere(this.lines) ? this.lines : undefined)).catch(
      (error: unknown) => {
        throw new Error(`${what} is not in:\n${this.#output}${this.#errors}`, { cause: error });
      },
    );
  }

  async messages(count: number): Promise<Line[]> {
    const lines = await this.until(`${count} messages`, (all) => messagesIn(all).length >= count);
    return messagesIn(lines);
  }

  /** Ends it as Ctrl-C does, twice if connections are left. */
  async stop(): Promise<void> {
    this.child.kill('SIGINT');
    this.child.kill('SIGTERM');
    assert.equal(await this.ended, 0, this.#errors);
  }
}

export function messagesIn(lines: readonly Line[]): Line[] {
  return lines.filter(({ kind }) => kind === 'message');
}
