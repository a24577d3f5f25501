/** The end of a lock owner: it must cost time by what the owner held, not by what the daemon holds. */
import { Contender, type Kind, kindTitles } from './contender.ts';
import { type Section, type Spread, short, shortSpread, spread, verdict } from './report.ts';
import type { Setting } from './setting.ts';
import { type Answer, figure } from './tools.ts';

interface Step {
  /** Locks that others hold meanwhile. */
  readonly held: number;
  /** Locks of the owner that ends. */
  readonly owned: number;
}

interface Measured extends Step {
  readonly kind: Kind;
  readonly ends: readonly Answer[];
}

const isKind = (kind: Kind): boolean => kind !== 'floor';

export async function runEndSection(setting: Setting): Promise<Section> {
  const many = setting.manyLocks;
  const steps: Step[] = [
    ...[1, 100, 1000, 10_000, many].map((owned) => ({ held: 0, owned })),
    ...[1, 100, 1000].map((owned) => ({ held: many, owned })),
  ];
  const kinds = setting.kinds.filter(isKind);
  const measured: Measured[] = [];
  const rates: { kind: Kind; none: Answer[]; many: Answer[] }[] = [];
  for (const kind of kinds) {
    // A journal's stalls would hide what is measured here.
    const contender = await Contender.start(kind, 'memory');
    try {
      const load = contender.load(setting.placement);
      const acquire = async (): Promise<Answer[]> => {
        const answers: Answer[] = [];
        for (let round = 0; round < setting.rounds; round++)
          answers.push(await load.ask(`acquire 1 ${setting.seconds}`));
        return answers;
      };
      setting.progress(`acquire with no lock held, ${kind}`);
      const none = await acquire();
      let held = 0;
      for (const step of steps) {
        if (step.held > held) {
          setting.progress(`taking ${step.held} locks, ${kind}`);
          await load.ask(`hold ${step.held}`);
          held = step.held;
          rates.push({ kind, none, many: await acquire() });
        }
        const ends: Answer[] = [];
        for (let round = 0; round < setting.rounds; round++) {
          setting.progress(`end of an owner of ${step.owned}, ${step.held} held by others, ${kind}`);
          ends.push(await load.ask(`owner ${step.owned}`));
          contender.checkAlive();
        }
        measured.push({ ...step, kind, ends });
      }
    } finally {
      await contender.stop();
    }
  }
  const milliseconds = ({ ends }: Measured): Spread => spread(ends.map((end) => figure(end, 'seconds') * 1e3));
  const find = (kind: Kind, held: number, owned: number): number | undefined => {
    const found = measured.find((one) => one.kind === kind && one.held === held && one.owned === owned);
    return found === undefined ? undefined : milliseconds(found).median;
  };
  const ratio = (above: number | undefined, below: number | undefined): number => (above ?? NaN) / (below ?? NaN);
  const verdicts = kinds.includes('ours')
    ? [
        verdict(
          `an owner of ${many} ends: time per lock against one of 100`,
          ratio(find('ours', 0, many), find('ours', 0, 100)) / (many / 100),
          { most: 1.5 },
        ),
        verdict(
          `an owner of 1000 ends: time with ${many} locks of others against none`,
          ratio(find('ours', many, 1000), find('ours', 0, 1000)),
          { most: 1.5 },
        ),
      ]
    : [];
  const names = steps.map(({ held, owned }) => `${owned}${held > 0 ? ` of ${held + owned}` : ''}`);
  return {
    id: 'ends',
    title: 'The end of an owner, and many locks held',
    note:
      'From SIGKILL of the owner to the unlinking of its last file, in ms; files in memory. The last rows are calls per second of ' +
      'ACQUIRE/RELEASE on one connection, with no lock held beside it and with many.',
    head: ['what', 'daemon', 'measured', 'per lock, µs'],
    rows: [
      ...measured.map((one) => [
        `owner of ${one.owned} ends, ${one.held} held by others`,
        kindTitles[one.kind],
        shortSpread(milliseconds(one)),
        short((milliseconds(one).median * 1e3) / one.owned),
      ]),
      ...rates.flatMap(({ kind, none, many: some }) =>
        [none, some].map((answers, index) => [
          `ACQUIRE/RELEASE, ${index === 0 ? 0 : many} held`,
          kindTitles[kind],
          shortSpread(spread(answers.map((answer) => figure(answer, 'rate')))),
          '',
        ]),
      ),
    ],
    verdicts,
    charts: [
      {
        title: 'Time to end an owner, by the locks it held (of all held)',
        form: 'lines',
        places: names,
        unit: 'ms',
        logarithmic: true,
        series: kinds.map((kind) => ({
          name: kindTitles[kind],
          values: steps.map(({ held, owned }) => find(kind, held, owned)),
        })),
      },
    ],
    raw: { measured, rates },
  };
}
