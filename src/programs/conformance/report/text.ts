/** The report at a terminal. */
import type { Result } from '../check.ts';
import { differences } from './differences.ts';
import { type Report, totals } from './report.ts';

/** The progress of the run, on standard error: a bar on a terminal, else a line for each tenth. */
export class Progress {
  readonly #total: number;
  readonly #form: 'bar' | 'lines' | 'none';
  #done = 0;
  #failed = 0;

  constructor(total: number, quiet: boolean) {
    this.#total = total;
    this.#form = quiet ? 'none' : process.stderr.isTTY ? 'bar' : 'lines';
  }

  show({ name, verdict }: Result): void {
    this.#done++;
    if (verdict === 'fail') this.#failed++;
    if (this.#form === 'bar') this.#drawBar(name);
    else if (this.#form === 'lines' && this.#tenths(this.#done) > this.#tenths(this.#done - 1)) {
      process.stderr.write(`${this.#done} of ${this.#total} checks made, ${this.#failed} failed\n`);
    }
  }

  end(): void {
    if (this.#form === 'bar') process.stderr.write('\r\x1b[K');
  }

  #tenths(done: number): number {
    return Math.floor((done * 10) / this.#total);
  }

  #drawBar(name: string): void {
    const width = 30;
    const filled = Math.floor((this.#done / this.#total) * width);
    const bar = '#'.repeat(filled) + '.'.repeat(width - filled);
    const line = `[${bar}] ${this.#done}/${this.#total}  ${this.#failed} failed  ${name}`;
    process.stderr.write(`\r${line.slice(0, process.stderr.columns - 1)}\x1b[K`);
  }
}

/** A failure with its explanation. */
export function failureText({ name, promise, detail, known, expected, seen }: Result): string {
  const lines = [`FAIL ${name}`, `  promise: ${promise}`];
  if (known !== undefined) lines.push(`  known: ${known}`);
  if (expected === undefined) lines.push(...(detail ?? '').split('\n').map((line) => `  ${line}`));
  else
    lines.push(...differences(expected, seen).flatMap(({ mark, text }) => (mark === ' ' ? [] : [`  ${mark} ${text}`])));
  return `${lines.join('\n')}\n`;
}

export function summary({ results, generation, against, time }: Report): string {
  const { pass, fail, skip, known } = totals(results);
  const explained = known === 0 ? '' : ` (${known} of them known defects)`;
  const by = against === undefined ? `judged as ${generation}` : `compared with ${against}`;
  return `${pass} passed, ${fail} failed${explained}, ${skip} skipped; ${by}, in ${(time / 1000).toFixed(1)} s`;
}
