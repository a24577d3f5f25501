/** Resident memory: idle, for each connection, for each lock, and after all have gone. */
import { setTimeout as pause } from 'node:timers/promises';
import { Contender, type Kind, kindTitles } from './contender.ts';
import { type Section, type Verdict, short, verdict } from './report.ts';
import type { Setting } from './setting.ts';
import { type Load, figure } from './tools.ts';

/** Bytes of the resource's name in the locks that the load generator takes. */
const nameLength = 64;
const clients = 3900;
const visitors = 4000;
/** Further locks that come and go. They need few descriptors of this daemon; C opens every name. */
const names = 100_000;
const QUIET_MS = 12_000;

interface Memory {
  readonly kind: Kind;
  /** All in KiB. */
  readonly idle: number;
  readonly clients900: number;
  readonly clients3900: number;
  readonly locked: number;
  readonly after: number;
}

/** Runs the commands one after the other, and returns the resident KiB afterwards. */
type Step = (text: string, ...commands: readonly string[]) => Promise<number>;

/** Resident KiB after a while without work. V8 returns memory only after about eight idle seconds. */
async function quietMemory(load: Load): Promise<number> {
  await pause(QUIET_MS);
  return figure(await load.ask('memory'), 'rssKiB');
}

async function measure(kind: Kind, setting: Setting): Promise<Memory> {
  const withDaemon = async <T>(run: (step: Step) => Promise<T>): Promise<T> => {
    const contender = await Contender.start(kind, setting.files);
    const load = contender.load('free');
    try {
      return await run(async (text, ...commands) => {
        setting.progress(`memory: ${text}, ${kind}`);
        for (const command of commands) await load.ask(command);
        contender.checkAlive();
        return quietMemory(load);
      });
    } finally {
      await contender.stop();
    }
  };
  const locks = setting.manyLocks;
  const comeAndGo = [`crowd ${visitors}`, 'departure', `hold ${locks}`, `drop ${locks}`];
  if (kind === 'ours') comeAndGo.push(`owner-names ${names}`);
  const coming = await withDaemon(async (step) => ({
    idle: await step('idle'),
    clients900: await step('900 clients', 'idle 900'),
    clients3900: await step(`${clients} clients`, `idle ${clients}`),
    after: await step('all gone', 'idle 0', ...comeAndGo),
  }));
  // On a daemon of its own: locks would reuse the memory of departed clients.
  const locked = await withDaemon(async (step) => step(`${locks} locks`, `hold ${locks}`));
  return { kind, ...coming, locked };
}

const perClient = (memory: Memory): number => (memory.clients3900 - memory.idle) / clients;
const perLock = (memory: Memory, locks: number): number => ((memory.locked - memory.idle) * 1024) / locks - nameLength;

function judge(memory: Memory, setting: Setting): Verdict[] {
  return [
    verdict('resident memory idle, MiB', memory.idle / 1024, { most: 60 }),
    verdict('for each further registered connection, KiB', perClient(memory), { most: 6 }),
    verdict('for each held lock beyond its name, bytes', perLock(memory, setting.manyLocks), { most: 1024 }),
    verdict(
      `after ${visitors} connections and ${setting.manyLocks + names} locks, against idle`,
      memory.after / memory.idle,
      { most: 1.15 },
    ),
  ];
}

export async function runMemorySection(setting: Setting): Promise<Section> {
  const all: Memory[] = [];
  for (const kind of setting.kinds.filter((kind) => kind !== 'floor')) all.push(await measure(kind, setting));
  const inMiB = (memory: Memory): number[] =>
    [memory.idle, memory.clients900, memory.clients3900, memory.locked, memory.after].map((value) => value / 1024);
  const places = ['idle', '900 clients', `${clients} clients`, `${setting.manyLocks} locks`, 'all gone'];
  return {
    id: 'memory',
    title: 'Resident memory',
    note: `In MiB, each after 12 s without work. For each lock: beyond the ${nameLength} bytes of its name.`,
    head: ['', 'daemon', ...places, 'KiB/connection', 'bytes/lock'],
    rows: all.map((memory) => [
      '',
      kindTitles[memory.kind],
      ...inMiB(memory).map(short),
      short(perClient(memory)),
      short(perLock(memory, setting.manyLocks)),
    ]),
    verdicts: all.filter(({ kind }) => kind === 'ours').flatMap((memory) => judge(memory, setting)),
    charts: [
      {
        title: 'Resident memory',
        form: 'bars',
        places,
        unit: 'MiB',
        series: all.map((memory) => ({ name: kindTitles[memory.kind], values: inMiB(memory) })),
      },
    ],
    raw: all,
  };
}
