/** The report at a terminal. */
import type { Result } from '../check.ts';
import { differences } from './differences.ts';
import { type Report, totals } from './report.ts';

/** The progress of the run, on a terminal. */
export class Progress {
  readonly #total: number;
  readonly #shown: boolean;
  #done = 0;
  #failed = 0;

  constructor(total: number, quiet: boolean) {
    this.#total = total;
    this.#shown = process.stderr.isTTY && !quiet;
  }

  tell({ name, verdict }: Result): void {
    this.#done++;
    if (verdict === 'fail') this.#failed++;
    if (!this.#shown) return;
    const width = 30;
    const filled = Math.floor((this.#done / this.#total) * width);
    const bar = '#'.repeat(filled) + '.'.repeat(width - filled);
    const line = `[${bar}] ${this.#done}/${this.#total}  ${this.#failed} failed  ${name}`;
    process.stderr.write(`\r${line.slice(0, process.stderr.columns - 1)}\x1b[K`);
  }

  end(): void {
    if (this.#shown) process.stderr.write('\r\x1b[K');
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
