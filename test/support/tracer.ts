/** bin/virtlockd-trace at work between a daemon and clients. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, GivenUp } from '../../src/lab/process.ts';
import { checkout } from '../../src/lab/trees.ts';

export const program = join(checkout, 'bin/virtlockd-trace');

export function missingTrace(): string | undefined {
  return existsSync(join(checkout, 'dist/virtlockd-trace.cjs'))
    ? undefined
    : 'bin/virtlockd-trace is not built (npm run build)';
}

/** A line of `--json`: the fields that tests check. */
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
  readonly #lines: Line[] = [];
  /** The start of a line whose end has not come. */
  #rest = '';
  #errors = '';

  private constructor(args: readonly string[]) {
    this.child = spawn(program, [...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      this.#lines.push(...lines.map((line) => JSON.parse(line) as Line));
    });
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

  get lines(): readonly Line[] {
    return this.#lines;
  }

  /** The lines once they are as many, or as they should be. */
  async until(what: string, isThere: (lines: readonly Line[]) => boolean): Promise<readonly Line[]> {
    return eventually(what, () => (isThere(this.lines) ? this.lines : undefined)).catch((error: unknown) => {
      const last = this.#lines.slice(-20).map((line) => JSON.stringify(line));
      throw new Error(`${what} is not there; the last lines:\n${last.join('\n')}\n${this.#errors}`, { cause: error });
    });
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
