/** The longest wait of another client during a large event. */
import { renameSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { Contender, type Kind, kindTitles } from './contender.ts';
import { type Section, short, shortSpread, spread, verdict } from './report.ts';
import type { Setting } from './setting.ts';
import { type Answer, type Load, figure } from './tools.ts';
import { PROGRAM } from '../src/libvirt/paths.ts';

interface Event {
  readonly title: string;
  /** In a chart. */
  readonly word: string;
  /** The prober's time limit on top of the pause before the event, in seconds. */
  readonly seconds: number;
  readonly kinds: readonly Kind[];
  /** Before the prober starts. */
  prepare?(load: Load): Promise<unknown>;
  /** While the prober calls. */
  happen(load: Load, contender: Contender): Promise<unknown>;
}

const daemons: readonly Kind[] = ['9.0.0', '12.8.0', 'ours'];

const events: readonly Event[] = [
  { title: 'nothing', word: 'nothing', seconds: 0.3, kinds: daemons, happen: async () => Promise.resolve() },
  {
    title: 'an owner of 1000 locks is killed',
    word: '1000 locks',
    seconds: 1,
    kinds: daemons,
    happen: async (load) => load.ask('owner 1000'),
  },
  {
    // C opens every name, and may not have that many descriptors.
    title: 'an owner takes 100 000 locks and is killed, beside as many of others',
    word: '100 000',
    seconds: 8,
    kinds: ['ours'],
    prepare: async (load) => load.ask('names 100000'),
    happen: async (load) => load.ask('owner-names 100000'),
  },
  {
    title: 'an owner that ignores SIGTERM loses its connection',
    word: 'stubborn',
    seconds: 3,
    kinds: daemons,
    happen: async (load) => load.ask('stubborn 1'),
  },
  {
    title: '1000 clients arrive at once',
    word: 'arrival',
    seconds: 1,
    kinds: daemons,
    happen: async (load) => load.ask('arrival 1000'),
  },
  {
    title: '4000 clients leave at once',
    word: 'departure',
    seconds: 1,
    kinds: daemons,
    prepare: async (load) => load.ask('crowd 4000'),
    happen: async (load) => load.ask('departure'),
  },
  {
    // C does not survive a successor that cannot run.
    title: 'a document of 100 000 locks is written, the successor refused',
    word: 'document',
    seconds: 4,
    kinds: ['ours'],
    prepare: async (load) => load.ask('names 100000'),
    happen: async (_load, contender) => {
      const path = contender.lab.outside(PROGRAM);
      writeFileSync(`${path}.new`, '#!/bin/sh\nexit 7\n', { mode: 0o755 });
      renameSync(`${path}.new`, path);
      contender.signal('SIGUSR1');
      return Promise.resolve();
    },
  },
];

interface Measured {
  readonly event: string;
  readonly kind: Kind;
  readonly probes: readonly Answer[];
}

/** Runs one round on a new daemon. Returns the prober's result. */
async function runRound(event: Event, kind: Kind, setting: Setting): Promise<Answer> {
  const contender = await Contender.start(kind, setting.files);
  try {
    const [load, prober] = [contender.load('free'), contender.load('free')];
    await event.prepare?.(load);
    // The first calls of a fresh daemon are slower than any later ones.
    await prober.ask('register 1 0.2');
    const probe = prober.ask(`probe ${0.1 + event.seconds} 10`);
    await pause(100);
    await event.happen(load, contender);
    const answer = await probe;
    contender.checkAlive();
    return answer;
  } finally {
    await contender.stop();
  }
}

export async function runWaitSection(setting: Setting): Promise<Section> {
  const measured: Measured[] = [];
  for (const event of events) {
    const kinds = event.kinds.filter((kind) => setting.kinds.includes(kind));
    const probes = new Map(kinds.map((kind) => [kind, [] as Answer[]]));
    for (let round = 0; round < setting.rounds; round++) {
      for (const kind of kinds) {
        setting.progress(`${event.title}: round ${round + 1} of ${setting.rounds}, ${kind}`);
        probes.get(kind)?.push(await runRound(event, kind, setting));
      }
    }
    for (const kind of kinds) measured.push({ event: event.title, kind, probes: probes.get(kind) ?? [] });
  }
  const longest = ({ probes }: Measured): number[] => probes.map((probe) => figure(probe, 'max') / 1e3);
  return {
    id: 'waits',
    title: 'Waiting while something happens',
    note: 'The longest wait of a client that calls REGISTER without pause, in ms: median (lowest to highest round).',
    head: ['event', 'daemon', 'longest wait', 'p99, µs', 'calls'],
    rows: measured.map((one) => [
      one.event,
      kindTitles[one.kind],
      shortSpread(spread(longest(one))),
      short(spread(one.probes.map((probe) => figure(probe, 'p99'))).median),
      short(spread(one.probes.map((probe) => figure(probe, 'calls'))).median),
    ]),
    verdicts: measured
      .filter(({ kind, event }) => kind === 'ours' && event !== 'nothing')
      .map((one) => verdict(`${one.event}: longest wait of all rounds, ms`, Math.max(...longest(one)), { most: 50 })),
    charts: [
      {
        title: 'Longest wait of another client',
        form: 'bars',
        places: events.map(({ word }) => word),
        unit: 'ms',
        logarithmic: true,
        series: daemons
          .filter((kind) => setting.kinds.includes(kind))
          .map((kind) => ({
            name: kindTitles[kind],
            values: events.map(({ title }) => {
              const found = measured.find((one) => one.event === title && one.kind === kind);
              return found === undefined ? undefined : spread(longest(found)).median;
            }),
          })),
      },
    ],
    raw: measured,
  };
}
