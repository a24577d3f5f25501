/** For how long nobody is served when the daemon is killed, and what systemd's descriptor store costs, in a booted Debian 12. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Host } from '../test/campaigns/deaths/host.ts';
import { missingMachine } from '../test/package/machine.ts';
import { type Section, short, shortSpread, spread, verdict, type Verdict } from './report.ts';
import type { Setting } from './setting.ts';
import { type Answer, figure, Load } from './tools.ts';

interface Situation {
  readonly title: string;
  readonly commands: readonly string[];
  /** Afterwards: locks would outlive the next round's restart. */
  readonly undo?: string;
}

const situations: readonly Situation[] = [
  { title: 'no other client', commands: [] },
  { title: '900 clients', commands: ['idle 900'] },
  { title: '3900 clients', commands: ['idle 3900'] },
  { title: '900 locks', commands: ['hold 900'], undo: 'drop 900' },
];

/** Names of the signals, and of what follows. */
const endings = { SIGUSR1: 'SIGUSR1', SIGKILL: 'kill -9' } as const;
type Ending = keyof typeof endings;

const rates = ['acquire 1', 'acquire 16'] as const;

/** More than there are clients; with the store and without it. */
const CONFIGURATION = 'max_clients = 5000\n';
const stores = { with: '', without: '[Service]\nFileDescriptorStoreMax=0\n' } as const;

const WATCHED_S = 2;
/** Nothing was stored for so long, in ms. */
const SETTLED_MS = 300;

class Bench {
  readonly #host: Host;
  readonly #locks: string;
  #places = 0;

  constructor(host: Host) {
    this.#host = host;
    this.#locks = join(host.machine.directory, 'locks');
  }

  /** A daemon that has just been started. */
  async fresh(): Promise<void> {
    await this.#host.must('systemctl', 'restart', 'virtlockd.service');
  }

  load(): Load {
    const pid = this.#host.daemon();
    if (pid === undefined) throw new Error('the daemon is not there');
    const directory = join(this.#locks, String(this.#places++));
    mkdirSync(directory, { recursive: true });
    return new Load({ socket: this.#host.machine.outside('/run/libvirt/virtlockd-sock'), directory, pid }, 'free');
  }

  /** Waits until the manager has taken all descriptors, which a SIGUSR1 waits for, too: thousands take it seconds. */
  private async settled(): Promise<void> {
    const args = ['show', '--property=NFileDescriptorStore', 'virtlockd.service'] as const;
    for (let before = ''; ;) {
      const stored = await this.#host.must('systemctl', ...args);
      if (stored === before) return;
      before = stored;
      await pause(SETTLED_MS);
    }
  }

  /** The longest time between two answers, in ms, around the end of a daemon. */
  async gap({ commands, undo }: Situation, ending: Ending): Promise<number> {
    await this.fresh();
    const [load, prober] = [this.load(), this.load()];
    try {
      for (const command of commands) await load.ask(command);
      await this.settled();
      await prober.ask('register 1 0.2');
      const probe = prober.ask(`probe ${WATCHED_S} ${WATCHED_S}`);
      await pause(100 + Math.random() * 50);
      const pid = this.#host.daemon();
      if (pid === undefined) throw new Error('the daemon is not there');
      process.kill(pid, ending);
      const gap = figure(await probe, 'gap') / 1e3;
      if (undo !== undefined) await load.ask(undo);
      return gap;
    } finally {
      await load.stop();
      await prober.stop();
    }
  }

  async rate(command: string, seconds: number): Promise<Answer> {
    const load = this.load();
    try {
      return await load.ask(`${command} ${seconds}`);
    } finally {
      await load.stop();
    }
  }
}

async function ratesOf(bench: Bench, setting: Setting): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  for (const command of rates) {
    const samples: number[] = [];
    for (let round = 0; round < setting.rounds; round++) {
      samples.push(figure(await bench.rate(command, setting.seconds), 'rate'));
    }
    found.set(command, samples);
  }
  return found;
}

export async function runDeathSection(setting: Setting): Promise<Section> {
  const section = {
    id: 'deaths',
    title: "The daemon's death",
    head: ['situation', ...Object.values(endings).map((title) => `${title}, ms`), 'ratio'],
    charts: [],
  };
  const missing = missingMachine();
  if (missing !== undefined) return { ...section, note: `Not measured: ${missing}.`, rows: [], verdicts: [], raw: {} };
  const host = await Host.boot();
  try {
    host.write('/etc/libvirt/virtlockd.conf', CONFIGURATION);
    const bench = new Bench(host);
    const rows: string[][] = [];
    const verdicts: Verdict[] = [];
    const raw: Record<string, unknown> = {};
    for (const situation of situations) {
      const gaps = { SIGUSR1: [] as number[], SIGKILL: [] as number[] };
      for (let round = 0; round < setting.rounds; round++) {
        for (const ending of ['SIGUSR1', 'SIGKILL'] as const) {
          setting.progress(`${situation.title}: round ${round + 1} of ${setting.rounds}, ${ending}`);
          gaps[ending].push(await bench.gap(situation, ending));
        }
      }
      const [restart, death] = [spread(gaps.SIGUSR1), spread(gaps.SIGKILL)];
      const ratio = death.median / restart.median;
      rows.push([situation.title, shortSpread(restart), shortSpread(death), short(ratio)]);
      verdicts.push(verdict(`${situation.title}: kill -9 against SIGUSR1`, ratio, { most: 2.5 }));
      raw[situation.title] = gaps;
    }
    for (const [store, settings] of Object.entries(stores)) {
      await host.dropIn('store', settings);
      await bench.fresh();
      for (const [command, samples] of await ratesOf(bench, setting)) {
        rows.push([`${command}, ${store} the store: pairs a second`, '', '', shortSpread(spread(samples))]);
        raw[`${command} ${store}`] = samples;
      }
    }
    return {
      ...section,
      note: 'The longest time, in ms, between two answers to a client that calls REGISTER without pause, median (lowest to highest round).',
      rows,
      verdicts,
      raw,
    };
  } finally {
    await host.stop();
  }
}
