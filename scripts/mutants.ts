/**
 * Breaks the daemon in every way of test/wire/programs/conformance/mutants, and reports which checks notice.
 *
 *   npm run mutants [NAME...]                    all checks of virtlockd-conformance, and which of them fail
 *   npm run mutants -- --fuzz SECONDS [NAME...]  virtlockd-fuzz for that long each, and whether and when it finds something
 *
 * NAME is a part of a mutant's name. Prints one line of JSON for each mutant. Needs root and a build.
 */
import { parseArgs } from 'node:util';
import type { Result } from '../src/programs/conformance/check.ts';
import { checks } from '../src/programs/conformance/checks.ts';
import { BlackBox, type Installation } from '../src/programs/fuzz/black-box.ts';
import { Trial } from '../src/programs/fuzz/fuzz-calls.ts';
import { Generator } from '../src/programs/fuzz/generate.ts';
import { Random } from '../src/programs/fuzz/random.ts';
import type { Sequence } from '../src/programs/fuzz/steps.ts';
import { makeChecks } from '../test/wire/programs/conformance/daemons.ts';
import { Mutants } from '../test/wire/programs/conformance/mutants/build.ts';
import { mutants } from '../test/wire/programs/conformance/mutants/index.ts';
import type { Mutant } from '../test/wire/programs/conformance/mutants/mutant.ts';

/** How long to wait for the answer of a mutant, in ms. */
const LIMIT = 6000;
/** The number of sequences kept to mutate. */
const CORPUS = 256;
const SEED = 1;

interface Find {
  /** Seconds and calls until the first complaint. */
  readonly seconds: number;
  readonly calls: number;
  readonly complaint?: string;
}

/** Runs sequences of calls that the model judges, for that many seconds or until its first complaint. */
async function fuzz(installation: Installation, seconds: number): Promise<Find> {
  const trial = new Trial(new BlackBox('ours', '12.8.0', installation), undefined);
  const random = new Random(SEED);
  const generator = new Generator(random, {
    restarts: true,
    aliases: true,
    restartOneIn: 30,
    programs: ['lock', 'admin', 'inquire'],
    inProcess: false,
    gathers: 4,
  });
  const corpus: Sequence[] = [];
  const start = performance.now();
  const elapsed = (): number => Math.round((performance.now() - start) / 100) / 10;
  let calls = 0;
  try {
    await trial.reset();
    for (let sequence = 1; elapsed() < seconds; sequence++) {
      const base = corpus.length > 0 && !random.oneIn(3) ? random.pick(corpus) : undefined;
      const steps = base === undefined ? generator.fresh() : generator.mutate(base, random.pick(corpus) ?? base);
      const outcome = trial.run(steps, sequence % 16 === 0);
      calls += outcome.calls;
      const complaint = outcome.problem === null ? undefined : `${outcome.problem.judge}: ${outcome.problem.detail}`;
      const found = complaint ?? (trial.isAlive ? undefined : 'alive: dead afterwards');
      if (found !== undefined) return { seconds: elapsed(), calls, complaint: found.slice(0, 200) };
      if (random.oneIn(16)) corpus.push(steps);
      if (corpus.length > CORPUS) corpus.shift();
      if (trial.isSpoilt) await trial.reset();
    }
    return { seconds: elapsed(), calls };
  } catch (error) {
    // Such as a daemon that never answers.
    return { seconds: elapsed(), calls, complaint: `start: ${(error as Error).message.split('\n')[0] ?? ''}` };
  } finally {
    await trial.stop();
  }
}

const usage = `Usage: npm run mutants -- [OPTION]... [NAME]...

Break the daemon in every way of test/wire/programs/conformance/mutants, and report who notices. NAME is a part of a mutant's name.

  --fuzz SECONDS  fuzz each mutant for that long, instead of running all checks of virtlockd-conformance
  --jobs N        run N daemons at a time (default: 2)
`;
const { values, positionals } = parseArgs({
  options: { fuzz: { type: 'string' }, jobs: { type: 'string', default: '2' }, help: { type: 'boolean', short: 'h' } },
  allowPositionals: true,
});
if (values.help === true) {
  process.stdout.write(usage);
  process.exit();
}
/** The unchanged daemon, with which nothing may be found. */
const control: Mutant = { name: 'none', edits: [], caughtBy: [] };
const wanted = [control, ...mutants].filter(
  ({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
);
const built = new Mutants();
let missed = 0;
try {
  for (const mutant of wanted) {
    const program = await built.program(mutant);
    if (values.fuzz !== undefined) {
      const found = await fuzz({ program, directory: built.directory }, Number(values.fuzz));
      if (found.complaint === undefined) missed++;
      console.log(JSON.stringify({ mutant: mutant.name, ...found }));
      continue;
    }
    const results: Result[] = await makeChecks(program, {
      checks,
      share: [built.directory],
      limit: LIMIT,
      jobs: Number(values.jobs),
    });
    const caughtBy = results.filter(({ verdict }) => verdict === 'fail').map(({ name }) => name);
    if (caughtBy.length === 0) missed++;
    console.log(JSON.stringify({ mutant: mutant.name, count: caughtBy.length, caughtBy }));
  }
} finally {
  built.remove();
}
console.error(`${wanted.length - missed} of ${wanted.length} found`);
