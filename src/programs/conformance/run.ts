/** Makes checks, several daemons at a time, and judges them. */
import { isDeepStrictEqual } from 'node:util';
import { CheckContext } from './check-context.ts';
import { type Check, type Result, Skipped } from './check.ts';
import type { Generation } from '../../lab/generation.ts';
import { patient } from '../../lab/patience.ts';
import { defectIn, Judge } from './judge.ts';
import type { Subject } from './subject.ts';

/** How long a check may take, in ms. */
const LIMIT_MS = 30_000;
/** How long a daemon that was killed for that may take to end, in ms. */
const END_MS = 2000;

/** The outcome of a check of one daemon, not yet judged. */
interface Sight {
  readonly seen: readonly string[];
  /** The error that ended the check. */
  readonly problem?: string;
  readonly skipped?: string;
}

/** Kills the daemon at the signal, and gives up the task soon after: a daemon that hangs must not hang the run. */
async function bounded(task: Promise<unknown>, signal: AbortSignal, subject: Subject): Promise<void> {
  let late: NodeJS.Timeout | undefined;
  let abandon = (): void => undefined;
  const abandoned = new Promise<never>((_, reject) => {
    abandon = () => {
      // Its end ends every wait for it.
      void subject.kill();
      late = setTimeout(reject, patient(END_MS), new Error('given up'));
    };
    signal.addEventListener('abort', abandon);
  });
  try {
    await Promise.race([task, abandoned]);
  } finally {
    clearTimeout(late);
    signal.removeEventListener('abort', abandon);
  }
}

async function look(
  check: Check,
  subject: Subject,
  { generation, limit: longest = LIMIT_MS }: Plan,
  right?: readonly string[],
): Promise<Sight> {
  const own = 'run' in check ? check.limit : undefined;
  const limit = patient(Math.min(own ?? longest, longest));
  const signal = AbortSignal.timeout(limit);
  const context = new CheckContext(subject, generation, signal);
  let seen: readonly string[] = context.notes;
  const perform = async (): Promise<void> => {
    if ('run' in check) await check.run(context);
    else seen = await subject.play(check.exchange, { signal, right });
  };
  try {
    await bounded(perform(), signal, subject);
    return { seen };
  } catch (error) {
    if (error instanceof Skipped) return { seen, skipped: error.message };
    const said = error instanceof Error ? error.message : String(error);
    const problem = signal.aborted ? `the daemon did not answer within ${limit / 1000} s, and was killed` : said;
    return { seen, problem };
  } finally {
    await context.cleanUp().catch(() => undefined);
  }
}

/** Why a check is not made of that daemon, or undefined. */
function hindrance(check: Check, subject: Subject): string | undefined {
  if (subject.foreign !== undefined && check.harmless !== true) return subject.foreign;
  return process.geteuid?.() === 0 ? undefined : check.rootOnly;
}

export interface Plan {
  readonly checks: readonly Check[];
  /** Opens the daemon that is checked; called once for every worker. */
  readonly open: () => Promise<Subject>;
  readonly generation: Generation;
  /** Another daemon, or a recorded one, to compare with in place of the right transcripts. */
  readonly against?: (() => Promise<Subject>) | Generation;
  readonly jobs: number;
  /** The longest time for a check, in ms; default: 30 000. See patience.ts. */
  readonly limit?: number;
  /** Gets every result as it comes. */
  readonly onResult?: (result: Result) => void;
}

class Runner {
  readonly #plan: Plan;
  readonly #judge: Judge;
  readonly #other: Judge | undefined;

  constructor(plan: Plan) {
    this.#plan = plan;
    this.#judge = new Judge(plan.generation);
    this.#other = typeof plan.against === 'string' ? new Judge(plan.against) : undefined;
  }

  async run(): Promise<Result[]> {
    const results = new Map<string, Result>();
    const queue = this.#plan.checks.values();
    const work = async (): Promise<void> => {
      const subject = await this.#plan.open();
      const other = typeof this.#plan.against === 'function' ? await this.#plan.against() : undefined;
      try {
        for (const check of queue) {
          const result = await this.#result(check, subject, other);
          results.set(check.name, result);
          this.#plan.onResult?.(result);
        }
      } finally {
        await Promise.all([subject.close(), other?.close()]);
      }
    };
    await Promise.all(Array.from({ length: Math.max(1, this.#plan.jobs) }, work));
    return this.#plan.checks.flatMap(({ name }) => results.get(name) ?? []);
  }

  async #result(check: Check, subject: Subject, other: Subject | undefined): Promise<Result> {
    const start = performance.now();
    const outcome = await this.#outcome(check, subject, other);
    const { name, group, promise } = check;
    return { name, group, promise, ...outcome, time: Math.round(performance.now() - start) };
  }

  async #outcome(check: Check, subject: Subject, other: Subject | undefined): Promise<Outcome> {
    const reason = hindrance(check, subject);
    if (reason !== undefined) return { verdict: 'skip', detail: reason, seen: [] };
    const [sight, otherSight] = await Promise.all([
      look(check, subject, this.#plan, this.#right(check, subject)),
      other === undefined ? undefined : look(check, other, this.#plan),
    ]);
    const skipped = sight.skipped ?? otherSight?.skipped;
    if (skipped !== undefined) return { verdict: 'skip', detail: skipped, seen: sight.seen };
    if (otherSight !== undefined) return compared(linesOf(sight), linesOf(otherSight));
    if (this.#other !== undefined) {
      const recorded = 'exchange' in check ? this.#other.recorded(check.exchange) : undefined;
      if (recorded === undefined) return { verdict: 'skip', detail: 'was not recorded', seen: sight.seen };
      return compared(linesOf(sight), recorded);
    }
    return this.#judged(check, visibleOf(subject), sight);
  }

  #right(check: Check, subject: Subject): readonly string[] | undefined {
    if (!('exchange' in check)) return undefined;
    const right = this.#judge.expect(check.exchange)?.right;
    return right && visibleOf(subject)(right);
  }

  #judged(check: Check, visible: Visible, sight: Sight): Outcome {
    const { problem } = sight;
    const seen = visible(sight.seen);
    if ('run' in check) {
      if (problem === undefined) return { verdict: 'pass', seen };
      return { verdict: 'fail', detail: problem, seen, known: check.known };
    }
    const expectation = this.#judge.expect(check.exchange);
    if (expectation === undefined) return { verdict: 'skip', detail: 'was not recorded', seen };
    const expected = visible(expectation.right);
    if (problem !== undefined) return { verdict: 'fail', detail: problem, expected, seen };
    if (isDeepStrictEqual(seen, expected)) return { verdict: 'pass', expected, seen };
    const known = defectIn(seen, expectation);
    return { verdict: 'fail', detail: firstDifference(expected, seen), expected, seen, ...(known && { known }) };
  }
}

/** The lines of a transcript to judge: all, or those that need no knowledge of the daemon's process. */
type Visible = (lines: readonly string[]) => readonly string[];
const whole: Visible = (lines) => lines;
const dimmed: Visible = (lines) => lines.filter((line) => !/^(lock|descriptors):/.test(line));
const visibleOf = (subject: Subject): Visible => (subject.blind === true ? dimmed : whole);

type Outcome = Omit<Result, 'name' | 'group' | 'promise' | 'time'>;

/** The lines that were seen, and the error as the last one. */
const linesOf = ({ seen, problem }: Sight): readonly string[] =>
  problem === undefined ? seen : [...seen, `failed: ${problem}`];

function compared(seen: readonly string[], expected: readonly string[]): Outcome {
  if (isDeepStrictEqual(seen, expected)) return { verdict: 'pass', expected, seen };
  return { verdict: 'fail', detail: firstDifference(expected, seen), expected, seen };
}

function firstDifference(expected: readonly string[], seen: readonly string[]): string {
  const at = seen.findIndex((line, index) => line !== expected[index]);
  const line = at === -1 ? seen.length : at;
  return `line ${line + 1}: expected ${expected[line] ?? 'nothing more'}\nseen ${seen[line] ?? 'nothing more'}`;
}

/** @returns the results in the order of the checks */
export async function run(plan: Plan): Promise<Result[]> {
  return new Runner(plan).run();
}
