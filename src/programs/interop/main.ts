/** npm run interop [-- OPTION...]: the matrix of lock daemons and their clients. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DaemonKind } from '../../lab/generation.ts';
import { explain } from './explanations.ts';
import { exitStatus, judge } from './judgement.ts';
import { markdown } from './markdown.ts';
import { Results, runMatrix } from './matrix.ts';
import { type Cell, type Column, columnTitle, rowTitle } from './model.ts';
import { UsageError } from '../../lab/command-line.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { page } from './page.ts';

const titleOf = (row: DaemonKind, column: Column): string => `${rowTitle(row)} × ${columnTitle(column)}`;

function outcome(cell: Cell): string {
  if (cell.broken !== undefined) return `could not be run: ${cell.broken}`;
  const failed = cell.checks.filter(({ verdict }) => verdict === 'fail');
  const unexplained = failed.filter((check) => explain(check, cell) === undefined);
  const explained = failed.length - unexplained.length;
  const counts = [`${cell.checks.filter(({ verdict }) => verdict === 'pass').length} passed`];
  if (explained > 0) counts.push(`${explained} explained`);
  if (unexplained.length > 0) counts.push(`${unexplained.length} UNEXPLAINED: ${unexplained[0]?.name ?? ''}, …`);
  return counts.join(', ');
}

function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

async function run(options: Options): Promise<number> {
  const results = new Results(options.json);
  const total = options.rows.length * options.columns.length;
  const terminal = process.stderr.isTTY;
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => interrupted.abort());
  }
  let done = 0;
  await runMatrix(
    {
      ...options,
      signal: interrupted.signal,
      onStep: (row, column, step) => {
        const line = `[${done}/${total}] ${titleOf(row, column)}: ${step}`;
        if (terminal) process.stderr.write(`\r${line.slice(0, process.stderr.columns - 1)}\x1b[K`);
      },
      onCell: (cell, kept) => {
        if (terminal) process.stderr.write('\r\x1b[K');
        const time = kept ? 'as before' : `${cell.seconds} s`;
        console.log(`[${++done}/${total}] ${titleOf(cell.row, cell.column)}: ${outcome(cell)} (${time})`);
      },
    },
    results,
  );
  const judgement = judge(results.cells, options.rows, options.columns);
  if (options.html !== undefined) write(options.html, page(judgement));
  const status = exitStatus(judgement);
  // A page with cells that were not run would replace a complete one.
  if (options.markdown !== undefined && status !== 3) write(options.markdown, await markdown(judgement));
  return status;
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) process.stdout.write(usage);
  else process.exitCode = await run(options);
} catch (error) {
  process.stderr.write(`interop: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 3;
}
