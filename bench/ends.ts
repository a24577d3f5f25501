/** The end of a lock owner. Its cost must depend on the owner's locks only, not on the daemon's. */
import { Contender, type Kind, kindTitles } from './contender.ts';
import { type Section, type Spread, short, shortSpread, spread, verdict } from './report.ts';
import type { Setting } from './setting.ts';
import { type Answer, type Load, figure } from './tools.ts';

/**
 * Locks are exclusive locks on files of their own, limited by descriptors, or any number of shared locks under names of few
 * files. C opens every name, so the latter are for this daemon only.
 */
interface Run {
  readonly kind: Kind;
  readonly title: string;
  readonly many: number;
  readonly hold: string;
  readonly owner: string;
}

interface Step {
  /** Locks of other owners. */
  readonly held: number;
  /** Locks of the owner that ends. */
  readonly owned: number;
}

interface Measured extends Step {
  readonly run: Run;
  readonly ends: readonly Answer[];
}

/** Rates of ACQUIRE/RELEASE on one connection, with no other lock held, and with many. */
interface Rates {
  readonly run: Run;
  readonly none: readonly Answer[];
  readonly many: readonly Answer[];
}

const ALL = 100_000;

function runsOf({ kinds, manyLocks }: Setting): Run[] {
  const files = kinds
    .filter((kind) => kind !== 'floor')
    .map((kind): Run => ({ kind, title: kindTitles[kind], many: manyLocks, hold: 'hold', owner: 'owner' }));
  if (!kinds.includes('ours')) return files;
  const title = `${kindTitles.ours}, names`;
  return [...files, { kind: 'ours', title, many: ALL, hold: 'names', owner: 'owner-names' }];
}

const stepsOf = ({ many }: Run): Step[] => [
  ...[1, 100, 1000, 10_000, many].map((owned) => ({ held: 0, owned })),
  ...[1, 100, 1000].map((owned) => ({ held: many, owned })),
];

/** Alternates with a daemon that holds no lock, because the machine's speed changes within minutes. */
async function compareRates(run: Run, load: Load, setting: Setting): Promise<Rates> {
  const [none, many]: [Answer[], Answer[]] = [[], []];
  const other = await Contender.start(run.kind, 'memory');
  try {
    const free = other.load(setting.placement);
    const command = `acquire 1 ${setting.seconds}`;
    // The first calls of a fresh daemon are slower than any later ones.
    await free.ask(command);
    for (let round = 0; round < setting.rounds; round++) {
      setting.progress(`acquire beside ${run.many} locks and beside none: round ${round + 1}, ${run.title}`);
      none.push(await free.ask(command));
      many.push(await load.ask(command));
    }
  } finally {
    await other.stop();
  }
  return { run, none, many };
}

export async function runEndSection(setting: Setting): Promise<Section> {
  const runs = runsOf(setting);
  const measured: Measured[] = [];
  const rates: Rates[] = [];
  for (const run of runs) {
    // Stalls of a journal would hide the effect.
    const contender = await Contender.start(run.kind, 'memory');
    try {
      const load = contender.load(setting.placement);
      let held = 0;
      for (const step of stepsOf(run)) {
        if (step.held > held) {
          setting.progress(`taking ${step.held} locks, ${run.title}`);
          await load.ask(`${run.hold} ${step.held}`);
          held = step.held;
          rates.push(await compareRates(run, load, setting));
        }
        const ends: Answer[] = [];
        for (let round = 0; round < setting.rounds; round++) {
          setting.progress(`end of an owner of ${step.owned}, ${step.held} held by others, ${run.title}`);
          ends.push(await load.ask(`${run.owner} ${step.owned}`));
          contender.checkAlive();
        }
        measured.push({ ...step, run, ends });
      }
    } finally {
      await contender.stop();
    }
  }
  const milliseconds = ({ ends }: Measured): Spread => spread(ends.map((end) => figure(end, 'seconds') * 1e3));
  const find = (run: Run, held: number, owned: number): number | undefined => {
    const found = measured.find((one) => one.run === run && one.held === held && one.owned === owned);
    return found === undefined ? undefined : milliseconds(found).median;
  };
  const rate = (answers: readonly Answer[]): Spread => spread(answers.map((answer) => figure(answer, 'rate')));
  const ratio = (above: number | undefined, below: number | undefined): number => (above ?? NaN) / (below ?? NaN);
  const verdicts = runs
    .filter(({ kind }) => kind === 'ours')
    .flatMap((run) => {
      const { title, many } = run;
      const rated = rates.find((one) => one.run === run);
      return [
        verdict(
          `${title}: an owner of ${many} ends: time per lock against one of 100`,
          ratio(find(run, 0, many), find(run, 0, 100)) / (many / 100),
          { most: 1.5 },
        ),
        verdict(
          `${title}: an owner of 1000 ends: time with ${many} locks of others against none`,
          ratio(find(run, many, 1000), find(run, 0, 1000)),
          { most: 1.5 },
        ),
        verdict(
          `${title}: ACQUIRE/RELEASE with ${many} locks held against none`,
          spread(
            (rated?.many ?? []).map((one, round) => figure(one, 'rate') / figure(rated?.none[round] ?? one, 'rate')),
          ),
          { least: 0.85 },
        ),
      ];
    });
  return {
    id: 'ends',
    title: 'The end of an owner, and many locks held',
    note:
      'From SIGKILL of the owner until the last of its files is unlinked or closed, in ms; files in memory. Names are shared locks of ' +
      'a thousand names each of one file. The last rows are calls per second of ACQUIRE/RELEASE on one connection, with no lock ' +
      'held beside it and with many.',
    head: ['what', 'daemon', 'measured', 'per lock, µs'],
    rows: [
      ...measured.map((one) => [
        `owner of ${one.owned} ends, ${one.held} held by others`,
        one.run.title,
        shortSpread(milliseconds(one)),
        short((milliseconds(one).median * 1e3) / one.owned),
      ]),
      ...rates.flatMap(({ run, none, many }) =>
        [none, many].map((answers, index) => [
          `ACQUIRE/RELEASE, ${index === 0 ? 0 : run.many} held`,
          run.title,
          shortSpread(rate(answers)),
          '',
        ]),
      ),
    ],
    verdicts,
    charts: [
      {
        title: 'Time to end an owner, by the locks it held (+: beside many of others)',
        form: 'lines',
        places: ['1', '100', '1000', '10000', 'many', '1 +', '100 +', '1000 +'],
        unit: 'ms',
        logarithmic: true,
        series: runs.map((run) => ({
          name: run.title,
          values: stepsOf(run).map(({ held, owned }) => find(run, held, owned)),
        })),
      },
    ],
    raw: { measured, rates },
  };
}
