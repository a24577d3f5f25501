/** Runs watch.c, and collects the instants at which a lock was free. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { compile } from '../../../src/lab/compile.ts';
import { checkout } from '../../../src/lab/trees.ts';
import type { Free } from './facts.ts';

const program = join(checkout, 'build/deaths/watch');

export class Watch {
  readonly free: Free[] = [];
  readonly #child: ChildProcess;

  constructor(files: readonly string[]) {
    compile(program, [join(checkout, 'test/campaigns/deaths/watch.c')]);
    this.#child = spawn(program, files, { stdio: ['pipe', 'pipe', 'inherit'] });
    const { stdout } = this.#child;
    if (stdout === null) throw new Error('the watch has no output');
    createInterface({ input: stdout }).on('line', (line) => {
      const { is, at, file } = JSON.parse(line) as { is: string; at: number; file: string };
      if (is === 'free') this.free.push({ at, file });
    });
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin?.end();
    await closed;
  }
}
