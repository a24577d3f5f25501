/** Runs a target, or replays findings. */
import { readFileSync, rmSync } from 'node:fs';
import { missingDaemon } from '../../lab/requirements.ts';
import { BlackBox, memoryDirectory } from './black-box.ts';
import { type CallFinding, fuzzCalls, Trial } from './fuzz-calls.ts';
import { fuzzInputs, type InputFinding } from './fuzz-inputs.ts';
import { InProcess } from './in-process.ts';
import { inputTargets, tryInputTimed } from './inputs.ts';
import { UsageError } from '../../lab/command-line.ts';
import type { FuzzOptions } from './options.ts';
import type { Report } from './report.ts';

function trialOf(options: FuzzOptions, daemon = options.daemon): Trial {
  for (const kind of options.against === undefined ? [daemon] : [daemon, options.against]) {
    const missing = missingDaemon(kind);
    if (missing !== undefined) throw new Error(missing);
  }
  const { against } = options;
  if (against === undefined) return new Trial(new BlackBox(daemon), undefined);
  return new Trial(new BlackBox(daemon, against), new BlackBox(against));
}

async function replay(options: FuzzOptions): Promise<number> {
  let shown = 0;
  for (const file of options.files) {
    const finding = JSON.parse(readFileSync(file, 'utf8')) as CallFinding | InputFinding;
    let complaint: string | null;
    if ('input' in finding) {
      const target = inputTargets.find(({ name }) => name === finding.target);
      if (target === undefined) throw new UsageError(`${file}: no target '${finding.target}'`);
      complaint = tryInputTimed(target, Buffer.from(finding.input, 'base64'));
    } else {
      const trial = trialOf(options);
      await trial.reset();
      const { problem } = trial.run(finding.steps, true);
      await trial.stop();
      complaint = problem === null ? null : `${problem.judge}, step ${problem.step}: ${problem.detail}`;
    }
    if (complaint !== null) shown++;
    process.stdout.write(`${file}: ${complaint ?? 'nothing found'}\n`);
  }
  return shown;
}

/** Carries out the options. Returns the number of findings. */
export async function run(options: FuzzOptions): Promise<number> {
  if (options.target === 'replay') return replay(options);
  let report: Report;
  if (options.target === 'calls') {
    const directory = memoryDirectory();
    try {
      report = await fuzzCalls(new Trial(new InProcess(`${directory}/w`), undefined), options);
    } finally {
      process.chdir('/');
      rmSync(directory, { recursive: true, force: true });
    }
  } else if (options.target === 'daemon') report = await fuzzCalls(trialOf(options), options);
  else {
    const target = inputTargets.find(({ name }) => name === options.target);
    if (target === undefined) throw new UsageError(`no target '${options.target}'`);
    report = await fuzzInputs(target, options);
  }
  report.finish(options.json);
  return report.summary.findings.length;
}
