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

/** Whether a broken daemon was found out. */
interface Proof {
  readonly breakage: string;
  readonly isFound: boolean;
  readonly report: Report;
}

function proofText({ breakage, isFound, report: { findings, seconds } }: Proof): string {
  const found = `found after ${findings[0]?.second ?? 0} s: ${findings[0]?.detail ?? ''}`;
  return `${breakage}: ${isFound ? found : `NOT found in ${seconds} s`}\n`;
}

type Play = (options: Partial<Options> & { readonly seed: number; readonly subject: Subject }) => Promise<Report>;

async function broken(built: Mutants, breakage: string): Promise<Subject> {
  const one = breakages[breakage];
  if (one === undefined) throw new Error(`no way to break the daemon: ${breakage}`);
  return { kind: 'daemon', program: await built.program(one) };
}

async function prove(play: Play, built: Mutants, { seed, json }: Options): Promise<number> {
  const proofs: Proof[] = [];
  for (const [breakage, { faults }] of Object.entries(breakages)) {
    const report = await play({ seed, subject: await broken(built, breakage), faults, endsEarly: true });
    const isFound = report.findings.some(({ kind }) => kind === 'two writers');
    proofs.push({ breakage, isFound, report });
  }
  writeReport(proofs, proofs.map(proofText).join(''), json);
  return proofs.every(({ isFound }) => isFound) ? 0 : 1;
}

/** All end before this does: none may be left behind. @throws Error of the first that could not be played */
async function playAll(play: Play, subject: Subject, { seed, runs, json }: Options): Promise<number> {
  const seeds = Array.from({ length: runs }, (_, index) => seed + index);
  const outcomes = await Promise.allSettled(seeds.map(async (one) => play({ seed: one, subject })));
  const reports = outcomes.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const [first] = reports;
  if (first !== undefined) writeReport(runs === 1 ? first : reports, reports.map(text).join('\n'), json);
  for (const one of outcomes) if (one.status === 'rejected') throw one.reason;
  if (reports.some(({ holds }) => holds === 0)) throw new Error('no owner ever got a lock');
  return reports.some(({ findings }) => findings.length > 0) ? 1 : 0;
}

async function main(options: Options): Promise<number> {
  const missing = missingCluster() ?? missingCompiler();
  if (missing !== undefined) throw new Error(missing);
  const interrupted = new AbortController();
  process.once('SIGTERM', () => {
    interrupted.abort();
  });
  const { breakage, isSelfTest, runs } = options;
  const built = new Mutants();
  const play: Play = async (own) =>
    run({
      ...options,
      ...own,
      signal: interrupted.signal,
      share: isSelfTest || breakage !== undefined ? [built.directory] : [],
      onProgress: (line) => {
        process.stderr.write(runs === 1 ? `${line}\n` : `seed ${own.seed}: ${line}\n`);
      },
    });
  try {
    if (isSelfTest) return await prove(play, built, options);
    const subject = breakage === undefined ? options.subject : await broken(built, breakage);
    return await playAll(play, subject, options);
  } finally {
    built.remove();
  }
}

await runCommand('etcd:check', usage, parseOptions, main);
