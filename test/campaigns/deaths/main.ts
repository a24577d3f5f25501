/** `npm run deaths`: see options.ts. */
import { writeFileSync } from 'node:fs';
import { spread, shortSpread } from '../../../bench/report.ts';
import { UsageError } from '../../../src/lab/command-line.ts';
import { missingCompiler } from '../../../src/lab/requirements.ts';
import { missingMachine } from '../../package/machine.ts';
import { type Report, run } from './campaign.ts';
import { type Options, parseOptions, usage } from './options.ts';

/** How many findings of a kind are printed. The JSON has all. */
const SHOWN = 5;

function text({ seed, seconds, deaths, operations, waits, findings, ...report }: Report): string {
  const lines = [
    `seed ${seed}: ${Object.values(deaths).reduce((sum, n) => sum + n, 0)} deaths in ${seconds} s`,
    ...Object.entries(deaths).map(([way, count]) => `  ${way}: ${count}`),
    'what happened to guests:',
    ...Object.entries(operations).map(([name, { done, failed }]) => `  ${name}: ${done}, ${failed} failed`),
    `the rival had ${report.answers} answers; ${report.closed} of its connections were closed`,
    `from kill -9 to its next answer: ${waits.length === 0 ? 'none' : `${shortSpread(spread(waits))} ms`}`,
    `descriptors stored: ${report.stored.before} before, ${report.stored.after} afterwards`,
    ...[...Map.groupBy(findings, ({ kind }) => kind)].flatMap(([kind, all]) => [
      `FOUND, ${kind}: ${all.length} times`,
      ...all.slice(0, SHOWN).map(({ detail }) => `  ${detail}`),
    ]),
    findings.length === 0 ? 'nothing was wrong' : `${findings.length} findings`,
  ];
  return `${lines.join('\n')}\n`;
}

async function main(options: Options): Promise<number> {
  const missing = missingMachine() ?? missingCompiler();
  if (missing !== undefined) throw new Error(missing);
  const interrupted = new AbortController();
  process.once('SIGTERM', () => {
    interrupted.abort();
  });
  const report = await run(options, {
    signal: interrupted.signal,
    onDeath: (count) => {
      if (process.stderr.isTTY) process.stderr.write(`\r${count}/${options.kills}\x1b[K`);
    },
  });
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  const json = `${JSON.stringify(report, null, 1)}\n`;
  if (options.json === '-') process.stdout.write(json);
  else {
    if (options.json !== undefined) writeFileSync(options.json, json);
    process.stdout.write(text(report));
  }
  return report.findings.length === 0 ? 0 : 1;
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) process.stdout.write(usage);
  else process.exitCode = await main(options);
} catch (error) {
  process.stderr.write(`deaths: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 3;
}
