/** virtlockd-fuzz: looks for inputs that a lock daemon, or a part of it, takes badly. */
import { readFileSync, rmSync } from 'node:fs';
import { missingDaemon } from '../../test/lab/requirements.ts';
import { BlackBox, memoryDirectory } from './black-box.ts';
import { type CallFinding, fuzzCalls, Trial } from './fuzz-calls.ts';
import { fuzzInputs, type InputFinding } from './fuzz-inputs.ts';
import { InProcess } from './in-process.ts';
import { inputTargets, tryInputTimed } from './inputs.ts';
import { type FuzzOptions, parseOptions, usage, UsageError } from './options.ts';
import type { Report } from './report.ts';

const EXIT = { clean: 0, found: 1, usage: 2, unable: 3 } as const;

/** A run throws as many errors as it makes calls; where each came from is of no interest. */
Error.stackTraceLimit = 0;

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
  return shown > 0 ? EXIT.found : EXIT.clean;
}

async function run(options: FuzzOptions): Promise<number> {
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
  return report.summary.findings.length > 0 ? EXIT.found : EXIT.clean;
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') {
    process.stdout.write(usage);
    process.exit(EXIT.clean);
  }
  process.exit(await run(options));
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`virtlockd-fuzz: ${message}\n${error instanceof UsageError ? usage : ''}`);
  process.exit(error instanceof UsageError ? EXIT.usage : EXIT.unable);
}
