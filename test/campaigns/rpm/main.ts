/** `npm run rpm`: see options.ts. */
import { RpmHost } from '../../package/rpm/host.ts';
import { missingRpm } from '../../package/rpm/packages.ts';
import { runCommand, writeReport } from '../command.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { type Report, run } from './run.ts';

function text({ points, killed, faults }: Report, seconds: number): string {
  const steps = Object.entries(points).map(([step, count]) => `${step}: ${count} scriptlets and commands`);
  const found = faults.flatMap(({ command, message }) => [command, `  ${message.replaceAll('\n', '\n  ')}`]);
  const result = faults.length === 0 ? 'nothing lost' : `${faults.length} faults`;
  return `${[...steps, `rpm was killed ${killed} times in ${seconds} s: ${result}`, ...found].join('\n')}\n`;
}

async function main(options: Options): Promise<number> {
  const missing = missingRpm();
  if (missing !== undefined) throw new Error(missing);
  const began = performance.now();
  const report = await run(
    async () => RpmHost.open(),
    options,
    (round, rounds) => {
      if (process.stderr.isTTY) process.stderr.write(`\rround ${round} of ${rounds}\x1b[K`);
    },
  );
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  const seconds = Math.round((performance.now() - began) / 1000);
  writeReport({ seconds, ...report }, text(report, seconds), options.json);
  return report.faults.length === 0 ? 0 : 1;
}

await runCommand('rpm', usage, parseOptions, main);
