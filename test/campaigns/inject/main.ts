/** npm run inject: restarts of a real daemon, one system call failing in each. */
import { Campaign, type Counts, type Finding, isAtBoot } from './campaign.ts';
import { UsageError } from '../../../src/lab/command-line.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { asJson, inWords, type Result } from './report.ts';
import type { Injection } from './tracer.ts';
import { describe, injectionsOn, sampleOf, type Way } from './way.ts';

const EXIT = { clean: 0, found: 1, usage: 2, unable: 3 } as const;

/** An end takes seconds, in which the same calls are made over and over. */
const LAST_WHILE_ENDING = 2;
const WHOLE_KEY = /^\S+ \S+ \S+$/;
const PROGRESS_S = 10;

function isWanted(injection: Injection, options: Options): boolean {
  const { key, nth, error, after } = injection;
  return (
    (options.boot || !isAtBoot(injection)) &&
    key.includes(options.only) &&
    (options.error === undefined || error === options.error) &&
    (options.nth === undefined || nth === options.nth) &&
    (!options.after || after)
  );
}

/** The calls that the options name, which need not have been seen. */
function named({ only, nth, error, after }: Options): Injection[] | undefined {
  if (nth === undefined || error === undefined || !WHOLE_KEY.test(only)) return undefined;
  return [{ key: only, nth, error, after }];
}

function sumOf(campaigns: readonly Campaign[]): Counts {
  const sum = { runs: 0, restarted: 0, refused: 0, missed: 0 };
  for (const { counts } of campaigns) {
    for (const name of Object.keys(sum) as (keyof Counts)[]) sum[name] += counts[name];
  }
  return sum;
}

/** Several daemons at a time, each with its share of the errors. */
class Drive {
  readonly #campaigns: readonly Campaign[];
  readonly #options: Options;
  readonly #left: Injection[];
  readonly #total: number;
  readonly #start = performance.now();
  #shown = 0;

  constructor(campaigns: readonly Campaign[], wanted: readonly Injection[], options: Options) {
    this.#campaigns = campaigns;
    this.#options = options;
    this.#left = [...wanted];
    this.#total = wanted.length;
  }

  async run(): Promise<void> {
    await Promise.all(this.#campaigns.map(async (campaign) => this.#work(campaign)));
  }

  async #work(campaign: Campaign): Promise<void> {
    for (let next = this.#left.shift(); next !== undefined; next = this.#left.shift()) {
      const finding = await campaign.try(next);
      if (finding !== null && this.#options.stop) this.#left.length = 0;
      if (!this.#options.quiet) this.#show(next, finding);
    }
  }

  #show(injection: Injection, finding: Finding | null): void {
    if (finding !== null) process.stderr.write(`found: ${describe(injection)}: ${finding.problems.join('; ')}\n`);
    const seconds = (performance.now() - this.#start) / 1000;
    if (seconds - this.#shown < PROGRESS_S) return;
    this.#shown = seconds;
    const { runs, restarted, refused, missed } = sumOf(this.#campaigns);
    const found = this.#campaigns.reduce((sum, { findings }) => sum + findings.length, 0);
    process.stderr.write(
      `${Math.round(seconds)} s: ${runs} of ${this.#total}, ${restarted} restarted, ${refused} refused, ${missed} not met, ${found} found\n`,
    );
  }
}

/** The calls of a restart while no owner is being ended. */
async function ordinaryWay(): Promise<Way> {
  const campaign = new Campaign({ ending: false });
  try {
    return await campaign.way();
  } finally {
    await campaign.close();
  }
}

async function show(campaign: Campaign, injection: Injection): Promise<number> {
  const { calls, log, ending, problems } = await campaign.show(injection);
  process.stdout.write(`${calls.join('\n')}\n${log}\n${ending}\n${problems.join('\n')}\n`);
  return problems.length;
}

/** The errors to try, of all possible ones. */
function wantedOf(all: readonly Injection[], options: Options): Injection[] {
  const wanted = all.filter((injection) => isWanted(injection, options));
  return sampleOf(wanted, options.sample, options.seed);
}

async function runScene(ending: boolean, known: Way, options: Options): Promise<Result | number> {
  const campaigns = Array.from({ length: options.jobs }, () => new Campaign({ ending }));
  const [first = new Campaign({ ending })] = campaigns;
  const start = performance.now();
  try {
    const outright = named(options);
    const way: Way = outright === undefined ? await first.way() : new Map<string, number>();
    // Calls that a restart without an owner's end has too were tried there.
    for (const key of known.keys()) way.delete(key);
    for (const [key, count] of way) known.set(key, count);
    if (options.list) {
      for (const [key, count] of way) process.stdout.write(`${String(count).padStart(5)} ${key}\n`);
      return 0;
    }
    const all = outright ?? injectionsOn(way, ending ? LAST_WHILE_ENDING : Infinity);
    const wanted = outright ?? wantedOf(all, options);
    const [one] = wanted;
    if (options.show && one !== undefined) return await show(first, one);
    for (const { usual } of campaigns) for (const problem of first.usual) usual.add(problem);
    await new Drive(campaigns, wanted, options).run();
    return {
      ending,
      keys: way.size,
      errors: all.length,
      ...sumOf(campaigns),
      usual: [...first.usual],
      findings: campaigns.flatMap(({ findings }) => findings),
      unstarted: campaigns.flatMap(({ unstarted }) => unstarted),
      seconds: Math.round((performance.now() - start) / 1000),
    };
  } finally {
    await Promise.all(campaigns.map(async (campaign) => campaign.close()));
  }
}

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options === 'help') {
    process.stdout.write(usage);
    return EXIT.clean;
  }
  const known: Way = options.scenes.includes(false) ? new Map<string, number>() : await ordinaryWay();
  const results: Result[] = [];
  let found = 0;
  for (const ending of options.scenes) {
    const result = await runScene(ending, known, options);
    if (typeof result === 'number') {
      found += result;
      continue;
    }
    found += result.findings.length + result.usual.length;
    results.push(result);
    if (!options.json) process.stdout.write(inWords(result));
  }
  if (options.json) process.stdout.write(asJson(results));
  return found > 0 ? EXIT.found : EXIT.clean;
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  const isUsage = error instanceof UsageError;
  process.stderr.write(`inject: ${(error as Error).message}\n${isUsage ? usage : ''}`);
  process.exit(isUsage ? EXIT.usage : EXIT.unable);
}
