/** Rates and waits under steady load. In every round each contender runs once, in changing order. */
import { Contender, type Kind, kindTitles } from './contender.ts';
import { type RateLoad, idleSteps, rateLoads } from './loads.ts';
import { type Section, type Spread, type Verdict, short, shortSpread, spread, verdict } from './report.ts';
import { type Answer, type Load, figure } from './tools.ts';
import type { Setting } from './setting.ts';

/** A contender: one of the daemons, or this one without idle connections. */
type Column = Kind | 'alone';
type Samples = Map<Column, Answer[]>;

interface Runner {
  readonly column: Column;
  readonly contender: Contender;
  readonly load: Load;
}

async function startRunner(column: Column, setting: Setting): Promise<Runner> {
  const contender = await Contender.start(column === 'alone' ? 'ours' : column, setting.files);
  return { column, contender, load: contender.load(setting.placement) };
}

/** Runs every contender in each round. Each round begins with another one. */
async function runRounds(load: RateLoad, runners: readonly Runner[], setting: Setting): Promise<Samples> {
  const samples: Samples = new Map(runners.map(({ column }) => [column, []]));
  const command = load.command(setting.seconds);
  for (let round = 0; round < setting.rounds; round++) {
    for (let turn = 0; turn < runners.length; turn++) {
      const runner = runners[(round + turn) % runners.length];
      if (runner === undefined) continue;
      setting.progress(`${load.title}: round ${round + 1} of ${setting.rounds}, ${runner.column}`);
      samples.get(runner.column)?.push(await runner.load.ask(command));
    }
  }
  return samples;
}

/** Ratios round by round, because the machine drifts between rounds; undefined when one of the two was not measured. */
function ratios(samples: Samples, over: Column, under: Column, name: string): Spread | undefined {
  const [above, below] = [samples.get(over), samples.get(under)];
  if (above === undefined || below === undefined || above.length === 0) return undefined;
  return spread(above.map((answer, round) => figure(answer, name) / figure(below[round] ?? {}, name)));
}

function judge(load: RateLoad, samples: Samples): Verdict[] {
  const verdicts: Verdict[] = [];
  const wanted: readonly [Column, string, number | undefined][] = [
    ['9.0.0', 'C 9.0.0', load.targets.c],
    ['floor', 'the floor', load.targets.floor],
    ['alone', 'its own figure without idle ones', load.targets.alone],
  ];
  for (const [column, name, least] of wanted) {
    const ratio = ratios(samples, 'ours', column, 'rate');
    if (ratio !== undefined && least !== undefined) {
      verdicts.push(verdict(`${load.title}: rate against ${name}`, ratio, { least }));
    }
  }
  const slow = ratios(samples, 'ours', '9.0.0', 'p99');
  if (slow !== undefined) verdicts.push(verdict(`${load.title}: p99 against C 9.0.0`, slow, { most: 1 }));
  return verdicts;
}

function rowsOf(load: RateLoad, samples: Samples): string[][] {
  return [...samples].map(([column, answers]) => {
    const of = (name: string): Spread => spread(answers.map((answer) => figure(answer, name)));
    const per = (name: string, part: string, scale: number): number =>
      spread(answers.map((answer) => (figure(answer, name) / figure(answer, part)) * scale)).median;
    const against = (other: Column): string => {
      const ratio = column === other ? undefined : ratios(samples, column, other, 'rate');
      return ratio === undefined ? '' : short(ratio.median);
    };
    return [
      load.title,
      column === 'alone' ? 'this daemon, none idle' : kindTitles[column],
      shortSpread(of('rate')),
      against('9.0.0'),
      against('floor'),
      short(of('p50').median),
      short(of('p99').median),
      short(of('max').median),
      short(per('daemonCpu', 'calls', 1e6)),
      `${short(per('daemonCpu', 'seconds', 100))} %`,
      `${short(per('ownCpu', 'seconds', 100))} %`,
    ];
  });
}

export async function runRateSection(setting: Setting): Promise<Section> {
  const loads = rateLoads.filter(({ id }) => setting.wants('rates', id));
  const runners: Runner[] = [];
  const results: { load: RateLoad; samples: Samples }[] = [];
  try {
    for (const kind of setting.kinds) runners.push(await startRunner(kind, setting));
    let open = 0;
    for (const load of loads) {
      if (load.idle > open) {
        for (const runner of runners.filter(({ column }) => column !== 'alone')) {
          setting.progress(`connecting ${load.idle} idle clients to ${runner.column}`);
          await runner.load.ask(`idle ${load.idle}`);
        }
        open = load.idle;
      }
      if (load.targets.alone !== undefined && setting.kinds.includes('ours') && runners.at(-1)?.column !== 'alone') {
        runners.push(await startRunner('alone', setting));
      }
      const taking = runners.filter(({ column }) => load.floor || column !== 'floor');
      results.push({ load, samples: await runRounds(load, taking, setting) });
    }
  } finally {
    await Promise.all(runners.map(async ({ contender }) => contender.stop()));
  }
  return {
    id: 'rates',
    title: 'Rates and waits',
    note:
      'Calls per second, median (lowest to highest round); ratios are medians of the ratios of each round; waits in µs. ' +
      'A load generator near 100 % of a processor is itself the limit: only the floor brings it there.',
    head: [
      'load',
      'daemon',
      'per second',
      '/ C 9.0.0',
      '/ floor',
      'p50',
      'p99',
      'longest',
      'CPU µs/call',
      'daemon CPU',
      'load CPU',
    ],
    rows: results.flatMap(({ load, samples }) => rowsOf(load, samples)),
    verdicts: results.flatMap(({ load, samples }) => judge(load, samples)),
    charts: ['register-1', 'acquire-1', 'acquire-16', 'cycle'].map((id) => ({
      title: `${rateLoads.find((load) => load.id === id)?.title ?? id}: rate over C 9.0.0, by idle connections beside it`,
      form: 'lines' as const,
      places: idleSteps.map(String),
      unit: 'times C 9.0.0',
      logarithmic: true,
      series: setting.kinds
        .filter((kind) => kind !== '9.0.0')
        .map((kind) => ({
          name: kindTitles[kind],
          values: idleSteps.map((idle) => {
            const found = results.find(({ load }) => load.id === (idle === 0 ? id : `${id}@${idle}`));
            return found === undefined ? undefined : ratios(found.samples, kind, '9.0.0', 'rate')?.median;
          }),
        })),
    })),
    raw: results.map(({ load, samples }) => ({ load: load.id, samples: Object.fromEntries(samples) })),
  };
}
