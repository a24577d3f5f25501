/** `npm run life`: see options.ts. */
import { spread, shortSpread } from '../../../bench/report.ts';
import { missingCompiler, missingFuse, missingLab } from '../../../src/lab/requirements.ts';
import { subjectAt } from './hosts.ts';
import { runCommand, writeReport } from '../command.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { type Located, type Report, run } from './run.ts';

/** Of so many ends the findings of a kind are printed; the JSON has all. */
const SHOWN = 5;

const milliseconds = (times: readonly number[]): string =>
  times.length === 0 ? 'none' : `${shortSpread(spread(times.map((ns) => ns / 1e6)))} ms`;

function findingsText(findings: readonly Located[]): string[] {
  return [...Map.groupBy(findings, ({ kind }) => kind)].flatMap(([kind, found]) => [
    `${kind}: in ${found.length} ends`,
    ...found
      .slice(0, SHOWN)
      .map(({ round, way, times, detail }) => `  round ${round}, ${way}, ${times} times: ${detail}`),
  ]);
}

function text({ daemon, seed, ways, waits, ...report }: Report): string {
  const lines = [
    `${daemon}, seed ${seed}: ${report.ends} ends in ${report.rounds} rounds and ${report.seconds} s`,
    `${report.restarts} restarts, ${report.swaps} swaps to C and back`,
    `${report.grants} grants, ${report.wrongGrants} wrong ones in ${report.wrongEnds} ends`,
    ...Object.entries(ways).map(
      ([way, { ends, wrong }]) => `  ${way}: ${ends}${wrong === 0 ? '' : `, ${wrong} with a wrong grant`}`,
    ),
    `from an owner's death to the first grant: ${milliseconds(waits.flatMap(({ grant }) => grant ?? []))}`,
    `who asks for nothing of the owner's is answered after ${milliseconds(waits.flatMap(({ bystanders }) => bystanders))}`,
    ...findingsText(report.findings),
  ];
  return `${lines.join('\n')}\n`;
}

function showProgress(report: Report, { ends }: Options): void {
  if (!process.stderr.isTTY) return;
  const { wrongGrants, restarts, findings, seconds } = report;
  const line = `${report.ends}/${ends} ends, ${restarts} restarts, ${wrongGrants} wrong grants, ${findings.length} findings, ${seconds} s`;
  process.stderr.write(`\r${line.slice(0, process.stderr.columns - 1)}\x1b[K`);
}

async function main(options: Options): Promise<number> {
  const missing = missingLab() ?? missingFuse() ?? missingCompiler();
  if (missing !== undefined) throw new Error(missing);
  const interrupted = new AbortController();
  // Not SIGINT: from a terminal it comes to the daemons and the owners as well, and nothing could go on.
  process.once('SIGTERM', () => {
    interrupted.abort();
  });
  const report = await run({
    ...options,
    subject: subjectAt(options.daemon),
    signal: interrupted.signal,
    onRound: (soFar) => {
      showProgress(soFar, options);
    },
  });
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  writeReport({ ...report, waits: undefined }, text(report), options.json);
  if (report.findings.length > 0) return 1;
  if (report.ends < options.ends) throw new Error('interrupted before the last round');
  return 0;
}

await runCommand('life', usage, parseOptions, main);
