/** The longest wait of a connected client across SIGUSR1, and the memory that restarts cost. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Contender, type Kind, kindTitles } from './contender.ts';
import { type Section, type Verdict, short, shortSpread, spread, verdict } from './report.ts';
import { describeMachine } from './setting.ts';
import type { Setting } from './setting.ts';
import { type Answer, figure, toolPath } from './tools.ts';

interface Situation {
  readonly id: string;
  readonly title: string;
  readonly clients: number;
  /** The load generator's command to acquire the locks. */
  readonly locks?: string;
  /** How long the prober watches, in seconds: the daemon first describes very many locks while it serves clients. */
  readonly seconds: number;
  /** Of this daemon alone. */
  readonly own?: true;
}

const situations: readonly Situation[] = [
  ...[0, 300, 900, 3900].map((clients) => ({
    id: String(clients),
    title: clients === 0 ? 'no other client' : `${clients} clients`,
    clients,
    seconds: 1.5,
  })),
  { id: 'locks', title: '900 locks', clients: 0, locks: 'hold 900', seconds: 1.5 },
  // C would need a descriptor for each, and does not read such a large document.
  { id: 'names', title: '100 000 names', clients: 0, locks: 'names 100000', seconds: 5, own: true },
];

interface Measured {
  readonly situation: Situation;
  readonly kind: Kind;
  /** The prober's results of the rounds that the daemon survived. */
  readonly probes: readonly Answer[];
  /** Rounds that the daemon did not survive. */
  readonly deaths: number;
}

/** One restart under the prober, at another moment in every round. Undefined if the daemon did not survive. */
async function runRound(
  kind: Kind,
  { clients, locks, seconds }: Situation,
  setting: Setting,
): Promise<Answer | undefined> {
  const contender = await Contender.start(kind, setting.files);
  try {
    const [load, prober] = [contender.load('free'), contender.load('free')];
    if (clients > 0) await load.ask(`idle ${clients}`);
    if (locks !== undefined) await load.ask(locks);
    await prober.ask('register 1 0.2');
    const probe = prober.ask(`probe ${seconds} 1.2`);
    await pause(100 + Math.random() * 50);
    contender.signal('SIGUSR1');
    return await probe;
  } catch (error) {
    if (contender.alive) throw error;
    return undefined;
  } finally {
    await contender.stop();
  }
}

interface Memory {
  readonly kind: Kind;
  /** MiB after one restart and after ten. */
  readonly one: number;
  readonly ten: number;
}

/** Undefined when the daemon did not survive its restarts, as happens with C. */
async function measureMemory(kind: Kind, setting: Setting): Promise<Memory | undefined> {
  const contender = await Contender.start(kind, setting.files);
  try {
    const load = contender.load('free');
    let one = 0;
    for (let restarts = 1; ; restarts++) {
      setting.progress(`memory after restart ${restarts}, ${kind}`);
      contender.signal('SIGUSR1');
      // A connection made before the new program is ready waits in the backlog, so the probe also awaits the restart.
      await pause(500);
      await load.ask('register 1 0.5');
      contender.checkAlive();
      if (restarts !== 1 && restarts !== 10) continue;
      await pause(1000);
      const resident = figure(await load.ask('memory'), 'rssKiB') / 1024;
      if (restarts === 10) return { kind, one, ten: resident };
      one = resident;
    }
  } catch (error) {
    if (kind === 'ours') throw error;
    return undefined;
  } finally {
    await contender.stop();
  }
}

/** Milliseconds from fork to the end of an empty script, on the runtime that runs the daemon: a few starts. */
function bareStarts(): number[] {
  const directory = mkdtempSync(join(tmpdir(), 'virtlockd-bench-'));
  try {
    const script = join(directory, 'empty.cjs');
    writeFileSync(script, '');
    const output = execFileSync(toolPath('start'), ['5', process.execPath, script], { encoding: 'utf8' });
    return JSON.parse(output) as number[];
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const lostIn = (probe: Answer): number => figure(probe, 'unanswered') + figure(probe, 'closed');
const lost = ({ probes }: Measured): number => probes.reduce((sum, probe) => sum + lostIn(probe), 0);
/** In ms. A round whose call was lost does not count: its client connected again when the daemon had long been ready. */
const longest = ({ probes }: Measured): number[] =>
  probes.filter((probe) => lostIn(probe) === 0).map((probe) => figure(probe, 'max') / 1e3);

function judge(measured: readonly Measured[], memories: readonly Memory[], bare: readonly number[]): Verdict[] {
  const of = (kind: Kind, id: string): Measured | undefined =>
    measured.find((one) => one.kind === kind && one.situation.id === id && longest(one).length > 0);
  const verdicts: Verdict[] = [];
  const empty = of('ours', '0');
  if (empty !== undefined) {
    const ratio = spread(longest(empty)).median / spread(bare).median;
    verdicts.push(verdict('no other client: longest wait against a bare start of the runtime', ratio, { most: 1.5 }));
    const locks = of('ours', 'locks');
    if (locks !== undefined) {
      const ratio = spread(longest(locks)).median / spread(longest(empty)).median;
      verdicts.push(verdict('900 locks: longest wait against none', ratio, { most: 1.2 }));
    }
  }
  const names = of('ours', 'names');
  if (names !== undefined) {
    verdicts.push(verdict('100 000 names: longest wait, ms', spread(longest(names)).median, { most: 250 }));
  }
  for (const [id, most] of [
    ['900', 1],
    ['3900', 0.5],
  ] as const) {
    const [ours, c] = [of('ours', id), of('9.0.0', id)];
    if (ours === undefined || c === undefined) continue;
    const ratio = spread(longest(ours)).median / spread(longest(c)).median;
    verdicts.push(verdict(`${id} clients: longest wait against C 9.0.0`, ratio, { most }));
  }
  const ours = measured.filter(({ kind }) => kind === 'ours');
  if (ours.length > 0) {
    const bad = ours.reduce((sum, one) => sum + lost(one) + one.deaths, 0);
    verdicts.push(verdict('calls unanswered, connections closed, daemons dead', bad, { most: 0 }));
  }
  const memory = memories.find(({ kind }) => kind === 'ours');
  if (memory !== undefined) {
    verdicts.push(
      verdict('resident memory after ten restarts against after one', memory.ten / memory.one, { most: 1.1 }),
    );
  }
  return verdicts;
}

export async function runRestartSection(setting: Setting): Promise<Section> {
  const kinds = setting.kinds.filter((kind) => kind !== 'floor');
  const measured: Measured[] = [];
  const bare: number[] = [];
  for (const situation of situations) {
    const able = kinds.filter((kind) => situation.own !== true || kind === 'ours');
    const answers = new Map(able.map((kind) => [kind, [] as (Answer | undefined)[]]));
    for (let round = 0; round < setting.rounds; round++) {
      for (const kind of able) {
        setting.progress(`SIGUSR1 with ${situation.title}: round ${round + 1} of ${setting.rounds}, ${kind}`);
        answers.get(kind)?.push(await runRound(kind, situation, setting));
      }
      // Alternates with its reference, because the machine's speed changes within minutes.
      if (situation === situations[0]) bare.push(...bareStarts());
    }
    for (const [kind, all] of answers) {
      const probes = all.filter((answer) => answer !== undefined);
      measured.push({ situation, kind, probes, deaths: all.length - probes.length });
    }
  }
  const memories: Memory[] = [];
  for (const kind of kinds) {
    const memory = await measureMemory(kind, setting);
    if (memory !== undefined) memories.push(memory);
  }
  const waitText = (one: Measured): string => (longest(one).length === 0 ? 'none' : shortSpread(spread(longest(one))));
  return {
    id: 'restart',
    title: 'SIGUSR1',
    note:
      'The longest wait, in ms, of a client that calls REGISTER without pause while the daemon executes itself again: ' +
      'median (lowest to highest round). Rounds in which its call was never answered are counted beside it.',
    head: ['situation', 'daemon', 'longest wait', 'unanswered or closed', 'daemon died', 'rounds'],
    rows: [
      ...measured.map((one) => [
        one.situation.title,
        kindTitles[one.kind],
        waitText(one),
        String(lost(one)),
        String(one.deaths),
        String(one.probes.length + one.deaths),
      ]),
      ['bare start', describeMachine().runtime ?? '', shortSpread(spread(bare)), '', '', String(bare.length)],
      ...memories.map(({ kind, one, ten }) => [
        'MiB after one restart, after ten',
        kindTitles[kind],
        `${short(one)}, ${short(ten)}`,
        '',
        '',
        '1',
      ]),
    ],
    verdicts: judge(measured, memories, bare),
    charts: [
      {
        title: 'Longest wait of a client across SIGUSR1',
        form: 'bars',
        places: situations.map(({ title }) => title),
        unit: 'ms',
        series: kinds.map((kind) => ({
          name: kindTitles[kind],
          values: situations.map(({ id }) => {
            const found = measured.find((one) => one.kind === kind && one.situation.id === id);
            return found === undefined || longest(found).length === 0 ? undefined : spread(longest(found)).median;
          }),
        })),
      },
    ],
    raw: { measured, memories, bare },
  };
}
