/** `npm run etcd:check`: see options.ts. */
import { missingCompiler, missingCluster } from '../../../src/lab/requirements.ts';
import { Mutants } from '../../wire/programs/conformance/mutants/build.ts';
import { runCommand, writeReport } from '../command.ts';
import { breakages } from './breakages.ts';
import type { Subject } from './hosts.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { type Report, run } from './run.ts';

function text({ seed, subject, seconds, faults, tally, holds, records, findings }: Report): string {
  const { granted, released, refused, alone, ended } = tally;
  const codes = Object.entries(refused).map(([code, count]) => `${count} with code ${code}`);
  const lines = [
    `${subject}, seed ${seed}: ${seconds} s`,
    `${granted} grants, ${released} released, ${alone} left without a daemon, ${ended} owners ended; refused: ${codes.join(', ') || 'none'}`,
    `${records} records of ${holds} holds`,
    ...Object.entries(faults).map(([name, count]) => `  ${name}: ${count}`),
    ...findings.map(({ kind, second, detail }) => `FOUND after ${second} s, ${kind}: ${detail}`),
    findings.length === 0 ? 'nothing was wrong' : `${findings.length} findings`,
  ];
  return `${lines.join('\n')}\n`;
}

async function main({ breakage, ...options }: Options): Promise<number> {
  const missing = missingCluster() ?? missingCompiler();
  if (missing !== undefined) throw new Error(missing);
  const interrupted = new AbortController();
  process.once('SIGTERM', () => {
    interrupted.abort();
  });
  const built = new Mutants();
  try {
    const broken = breakage === undefined ? undefined : breakages[breakage];
    const subject: Subject =
      broken === undefined ? options.subject : { kind: 'daemon', program: await built.program(broken) };
    const report = await run({
      ...options,
      subject,
      signal: interrupted.signal,
      share: broken === undefined ? [] : [built.directory],
      onProgress: (line) => {
        process.stderr.write(`${line}\n`);
      },
    });
    writeReport(report, text(report), options.json);
    if (report.holds === 0) throw new Error('no owner ever got a lock');
    return report.findings.length > 0 ? 1 : 0;
  } finally {
    built.remove();
  }
}

await runCommand('etcd:check', usage, parseOptions, main);
