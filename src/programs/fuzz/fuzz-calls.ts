/** The loop over sequences of calls. In this process coverage guides it. */
import { setImmediate as turn } from 'node:timers/promises';
import { branchesCovered } from './coverage.ts';
import { execute, type Outcome, type Problem } from './execute.ts';
import { kindOf } from './fuzz-inputs.ts';
import { Generator } from './generate.ts';
import type { FuzzOptions } from './options.ts';
import { Random } from './random.ts';
import { reduceList } from './reduce.ts';
import { Report } from './report.ts';
import type { Sequence, Step } from './steps.ts';
import { Store } from './store.ts';
import type { Target } from './target.ts';

/** Sequences between two turns of the event loop. */
const BATCH = 16;
/** Sequences between two thorough ones, each of which reads the kernel's whole table of locks. */
const THOROUGH_EVERY = 256;
/** Sequences between two counts of descriptors. */
const COUNT_EVERY = 256;
/** Sequences after which a real daemon is started again: it never forgets a lockspace. */
const FRESH_EVERY = 1000;
const MAX_DESCRIPTOR_COUNTS = 25;
const DESCRIPTOR_PAUSE_MS = 20;
const MAX_MEMORY_GROWTH = 96 * 1024 * 1024;
/** Findings after which a run ends. */
const MAX_FINDINGS = 40;

/** A finding of a sequence, as in its file. */
export interface CallFinding {
  readonly target: string;
  readonly against?: string;
  readonly judge: string;
  readonly complaint: string;
  readonly seed: number;
  /** These steps alone showed it again, with a fresh daemon. */
  readonly reproduced: boolean;
  readonly steps: Sequence;
}

/** One daemon that the model judges, or two that are compared. */
export class Trial {
  readonly target: Target;
  readonly other: Target | undefined;
  private number = 0;

  constructor(target: Target, other: Target | undefined) {
    this.target = target;
    this.other = other;
  }

  get name(): string {
    return this.other === undefined ? this.target.name : `${this.target.name} against ${this.other.name}`;
  }

  /** @param thorough also runs the judges that are too slow for every sequence */
  run(steps: Sequence, thorough = false): Outcome {
    const number = ++this.number;
    const all = thorough || number % THOROUGH_EVERY === 0;
    const { target, other } = this;
    if (other === undefined) return execute(steps, target, { judged: true, thorough: all }, number);
    const one = execute(steps, target, { judged: false, thorough: false }, number);
    const two = execute(steps, other, { judged: false, thorough: false }, number);
    const problem = one.problem ?? two.problem ?? difference(one, two, [target.name, other.name]);
    return { ...one, problem };
  }

  async reset(): Promise<void> {
    await this.target.reset();
    await this.other?.reset();
  }

  async stop(): Promise<void> {
    await this.target.stop();
    await this.other?.stop();
  }

  get isSpoilt(): boolean {
    return this.target.isSpoilt || this.other?.isSpoilt === true;
  }

  get isAlive(): boolean {
    return this.target.death() === null && (this.other === undefined || this.other.death() === null);
  }
}

function readable(line: string): string {
  return line.replace(/[^ -~]+/g, '.');
}

function difference(one: Outcome, two: Outcome, names: readonly [string, string]): Problem | null {
  const count = Math.max(one.transcript.length, two.transcript.length);
  for (let i = 0; i < count; i++) {
    const [a = 'nothing more', b = 'nothing more'] = [one.transcript[i], two.transcript[i]];
    if (a === b) continue;
    return {
      judge: 'reply',
      step: parseInt(a, 10),
      detail: `${names[0]}: ${readable(a)} | ${names[1]}: ${readable(b)}`,
    };
  }
  return null;
}

/** The number of open descriptors, after time for the daemon to close those of the run. */
function fewestDescriptors({ target }: Trial, enough: number): number {
  let now = target.descriptors();
  for (let counts = 1; now > enough && counts < MAX_DESCRIPTOR_COUNTS; counts++) {
    target.pause(DESCRIPTOR_PAUSE_MS);
    now = target.descriptors();
  }
  return now;
}

export async function fuzzCalls(trial: Trial, options: FuzzOptions): Promise<Report> {
  const report = new Report(trial.name, options.seed, options.quiet);
  const inProcess = trial.target.patience === 0;
  const store = new Store(options.corpus);
  const findings = new Store(options.findings);
  const corpus: Sequence[] = store.load().map((content) => JSON.parse(content.toString()) as Sequence);
  const random = new Random(options.seed);
  const generator = new Generator(random, {
    restarts: options.restarts,
    aliases: options.aliases,
    // A real restart takes as long as a thousand calls.
    restartOneIn: inProcess ? 4 : 30,
    programs: options.programs,
    inProcess,
    gathers: inProcess ? 2 : 4,
  });

  await trial.reset();
  trial.run([{ op: 'open', on: 0 }]);
  for (const steps of corpus) trial.run(steps);
  let covered = branchesCovered();
  let descriptors = trial.target.descriptors();
  let memory = trial.target.memory();

  const judge = async (steps: Sequence, problem: Problem): Promise<void> => {
    const kind = `${problem.judge} ${kindOf(problem.detail)}`;
    // The daemon may hold locks, and so descriptors, that the model does not expect.
    if (!inProcess) await trial.reset();
    if (report.isKnown(kind)) return;
    const { reproduced, steps: shorter } = await reduce(trial, steps, kind);
    const finding: CallFinding = {
      target: options.daemon,
      ...(options.against === undefined ? {} : { against: options.against }),
      judge: problem.judge,
      complaint: problem.detail,
      seed: options.seed,
      reproduced,
      steps: shorter,
    };
    const text = `${JSON.stringify(finding, null, 2)}\n`;
    const what = `${problem.judge}: ${problem.detail.slice(0, 300)}`;
    report.found(kind, what, findings.add(text, problem.judge, '.json'));
  };

  while (!options.enough(report.summary.runs, report.seconds) && report.summary.findings.length < MAX_FINDINGS) {
    for (let i = 0; i < BATCH; i++) {
      const base = corpus.length > 0 && !random.oneIn(3) ? random.pick(corpus) : undefined;
      const steps = base === undefined ? generator.fresh() : generator.mutate(base, random.pick(corpus) ?? base);
      const outcome = trial.run(steps);
      report.summary.runs += outcome.calls;
      report.summary.sequences++;
      if (outcome.problem !== null) await judge(steps, outcome.problem);
      else if (!inProcess && !trial.isAlive)
        await judge(steps, { judge: 'alive', step: -1, detail: 'dead afterwards' });
      if (inProcess) {
        if (branchesCovered() > covered) {
          covered = branchesCovered();
          corpus.push(steps);
          store.add(JSON.stringify(steps), 'calls', '.json');
        }
      } else if (random.oneIn(16)) {
        // Without coverage the corpus has recent sequences.
        corpus.push(steps);
        if (corpus.length > 256) corpus.shift();
      }
      const { sequences } = report.summary;
      if (sequences % COUNT_EVERY === 0) {
        const now = fewestDescriptors(trial, descriptors);
        if (now > descriptors + 2)
          await judge(steps, { judge: 'descriptors', step: -1, detail: `${now}, not ${descriptors}` });
        const grown = inProcess ? 0 : trial.target.memory() - memory;
        if (grown > MAX_MEMORY_GROWTH) {
          await judge(steps, { judge: 'memory', step: -1, detail: `grown by ${grown} bytes` });
        }
      }
      if (!inProcess && (trial.isSpoilt || sequences % FRESH_EVERY === 0)) {
        await trial.reset();
        trial.run([{ op: 'open', on: 0 }]);
        descriptors = trial.target.descriptors();
        memory = trial.target.memory();
      }
    }
    if (inProcess) report.summary.coveredBranches = covered;
    report.summary.corpus = corpus.length;
    report.show();
    await turn();
  }
  await trial.stop();
  return report;
}

/** The shortest sequence that shows the same kind of problem. */
async function reduce(trial: Trial, steps: Sequence, kind: string): Promise<{ reproduced: boolean; steps: Sequence }> {
  const inProcess = trial.target.patience === 0;
  const shows = (candidate: readonly Step[]): boolean => {
    const { problem } = trial.run(candidate, true);
    return problem !== null && `${problem.judge} ${kindOf(problem.detail)}` === kind;
  };
  if (!inProcess) await trial.reset();
  if (!shows(steps)) return { reproduced: false, steps };
  if (trial.isAlive) return { reproduced: true, steps: await reduceList(steps, shows, inProcess ? 2000 : 300) };
  // The daemon dies of it. Every try starts another one, so there are few.
  const showsAfresh = async (candidate: readonly Step[]): Promise<boolean> => {
    await trial.reset();
    return shows(candidate);
  };
  const shortest = await reduceList(steps, showsAfresh, 40);
  await trial.reset();
  return { reproduced: true, steps: shortest };
}
