/** `npm run deaths`: see options.ts. */
import { spread, shortSpread } from '../../../bench/report.ts';
import { missingCompiler, missingStrace } from '../../../src/lab/requirements.ts';
import { missingMachine } from '../../package/machine.ts';
import { type Report, run } from './campaign.ts';
import { runCommand, writeReport } from '../command.ts';
import { type Options, parseOptions, usage } from './options.ts';

/** How many findings of a kind are printed. The JSON has all. */
const SHOWN = 5;

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);

function text({ deaths, operations, findings, ...report }: Report): string {
  const lines = [
    `${report.release}, seed ${report.seed}: ${sum(Object.values(deaths))} deaths in ${report.seconds} s`,
    ...Object.entries(deaths).map(([way, count]) => {
      const waits = report.waits[way] ?? [];
      const wait = waits.length === 0 ? '' : `; until the rival's next answer ${shortSpread(spread(waits))} ms`;
      return `  ${way}: ${count}${wait}`;
    }),
    'placed in an operation:',
    ...Object.entries(report.places).map(
      ([operation, counts]) =>
        `  ${operation}: ${Object.entries(counts)
          .map(([boundary, count]) => `${boundary} ${count}`)
          .join(', ')}`,
    ),
    'what happened to guests:',
    ...Object.entries(operations).map(([name, { done, failed }]) => `  ${name}: ${done}, ${failed} failed`),
    `the rival had ${report.answers} answers; ${report.closed} of its connections were closed`,
    `descriptors stored: ${report.stored.before} before, ${report.stored.after} afterwards`,
    'errors of libvirt for calls that died:',
    ...Object.entries(report.accepted).map(([why, count]) => `  ${count}: ${why}`),
    ...[...Map.groupBy(findings, ({ kind }) => kind)].flatMap(([kind, all]) => [
      `FOUND, ${kind}: ${all.length} times`,
      ...all.slice(0, SHOWN).map(({ detail }) => `  ${detail}`),
    ]),
    findings.length === 0 ? 'nothing was wrong' : `${findings.length} findings`,
  ];
  return `${lines.join('\n')}\n`;
}

async function main(options: Options): Promise<number> {
  const missing = missingMachine(options.release) ?? missingCompiler() ?? missingStrace();
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
  writeReport(report, text(report), options.json);
  return report.findings.length === 0 ? 0 : 1;
}

await runCommand('deaths', usage, parseOptions, main);
