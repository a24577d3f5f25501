/** virtlockd-conformance: checks a lock daemon from outside. */
import { writeFileSync } from 'node:fs';
import type { Result } from './check.ts';
import { checks } from './checks.ts';
import { type Generation, generationNamed, generationOf, generations } from '../../lab/generation.ts';
import { openSubject, versionOf } from './open.ts';
import { setPatience } from '../../lab/patience.ts';
import { oneOf, packageVersion, UsageError } from '../../lab/command-line.ts';
import { isWanted, type Options, parseOptions, usage } from './options.ts';
import { htmlReport } from './report/html.ts';
import { jsonReport } from './report/json.ts';
import { junitReport } from './report/junit.ts';
import type { Report } from './report/report.ts';
import { tapReport } from './report/tap.ts';
import { failureText, Progress, summary } from './report/text.ts';
import { run } from './run.ts';

const EXIT = { pass: 0, fail: 1, usage: 2, unable: 3 } as const;

async function judgedBy(options: Options): Promise<{ generation: Generation; claims: number }> {
  if (options.subject === undefined) throw new UsageError('no daemon');
  const subject = await openSubject(options.subject, options);
  try {
    const claims = await versionOf(subject);
    return {
      claims,
      generation: options.dialect === undefined ? generationOf(claims) : generationNamed(options.dialect),
    };
  } finally {
    await subject.close();
  }
}

function write(file: string | undefined, text: () => string): void {
  if (file === '-') process.stdout.write(text());
  else if (file !== undefined) writeFileSync(file, text());
}

async function check(options: Options): Promise<number> {
  const { subject, against } = options;
  const wanted = checks.filter(({ name }) => isWanted(name, options.only));
  if (wanted.length === 0) throw new UsageError(`no check is called ${options.only.join(' or ')}`);
  if (subject === undefined) throw new UsageError('no daemon');
  const other = typeof against === 'string' ? oneOf('recording of', generations, against) : against;
  const { generation, claims } = await judgedBy(options);
  const started = new Date();
  const progress = new Progress(wanted.length, options.quiet);
  const results = await run({
    checks: wanted,
    open: () => openSubject(subject, options),
    generation,
    jobs: options.jobs,
    ...(other === undefined ? {} : { against: typeof other === 'string' ? other : () => openSubject(other, options) }),
    onResult: (result: Result) => progress.show(result),
  });
  progress.end();
  const report: Report = {
    daemon: 'socket' in subject ? subject.socket : subject.command.join(' '),
    claims,
    generation,
    ...(against === undefined ? {} : { against: typeof against === 'string' ? against : against.command.join(' ') }),
    started: started.toISOString(),
    time: Date.now() - started.getTime(),
    version: packageVersion(),
    results,
  };
  write(options.json, () => jsonReport(report));
  write(options.junit, () => junitReport(report));
  write(options.html, () => htmlReport(report));
  write(options.tap ? '-' : undefined, () => tapReport(report));
  const failures = results.filter(({ verdict }) => verdict === 'fail');
  const standardOutput = options.tap || [options.json, options.junit, options.html].includes('-');
  if (!standardOutput) {
    if (!options.quiet) for (const failure of failures) process.stdout.write(failureText(failure));
    process.stdout.write(`${summary(report)}\n`);
  }
  const counted = options.allowKnown ? failures.filter(({ known }) => known === undefined) : failures;
  return counted.length === 0 ? EXIT.pass : EXIT.fail;
}

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  setPatience(options.patience);
  switch (options.action) {
    case 'help':
      process.stdout.write(usage);
      return EXIT.pass;
    case 'version':
      process.stdout.write(`virtlockd-conformance ${packageVersion()}\n`);
      return EXIT.pass;
    case 'list':
      for (const { name, promise } of checks) {
        if (isWanted(name, options.only)) process.stdout.write(`${name}: ${promise}\n`);
      }
      return EXIT.pass;
    case 'run':
      return check(options);
  }
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A reader that closes the pipe early (head, less) is no error, and the exit status stays that of the checks.
  if (error.code !== 'EPIPE') throw error;
});
// Not awaited: the bundle is no module.
main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    const usageError = error instanceof UsageError;
    process.stderr.write(`virtlockd-conformance: ${error instanceof Error ? error.message : String(error)}\n`);
    if (usageError) process.stderr.write("Try 'virtlockd-conformance --help'.\n");
    process.exitCode = usageError ? EXIT.usage : EXIT.unable;
  },
);
