/** One run: operates guests, has rivals ask for their disks, and ends the daemon again and again. */
import { setTimeout as pause } from 'node:timers/promises';
import { Random } from '../../../src/programs/fuzz/random.ts';
import { type Death, type Facts, now, type Problem } from './facts.ts';
import { Guest } from './guest.ts';
import { Host } from './host.ts';
import { type Finding, judge } from './judge.ts';
import type { Options } from './options.ts';
import { PATIENCE, Rival } from './rival.ts';
import { Watch } from './watch.ts';
import { end, type Way } from './ways.ts';

/** The longest time between two deaths, in ms: a guest's start takes a second. Some deaths follow the last one at once. */
const PAUSE_MS = 900;
const AT_ONCE = 6;

export interface Report {
  readonly seed: number;
  readonly seconds: number;
  readonly deaths: Readonly<Record<string, number>>;
  readonly operations: Readonly<Record<string, { readonly done: number; readonly failed: number }>>;
  /** For each SIGKILL, the time until the rival's next answer, in ms. */
  readonly waits: readonly number[];
  /** The rival's answers, and its connections that were closed. */
  readonly answers: number;
  readonly closed: number;
  readonly stored: { readonly before: number; readonly after: number };
  readonly findings: readonly Finding[];
}

interface Progress {
  readonly onDeath: (count: number) => void;
  readonly signal: AbortSignal;
}

export async function run(options: Options, { onDeath, signal }: Progress): Promise<Report> {
  const host = await Host.boot();
  try {
    await host.startLibvirtd();
    return await play(host, options, { onDeath, signal });
  } finally {
    await host.stop();
  }
}

async function play(host: Host, options: Options, progress: Progress): Promise<Report> {
  const { seed } = options;
  const began = now();
  // The count of a fresh daemon without clients.
  const before = await storedAtRest(host);
  const guests = Array.from(
    { length: options.guests },
    (_, i) => new Guest(host, `guest${i}`, new Random(seed, i + 1)),
  );
  await guests[0]?.rehearse();
  const ordinary = new Set(said(host));
  const watch = new Watch(guests.map(({ image }) => image));
  const rival = new Rival(host, () => guests.filter(({ isHeld }) => isHeld).map(({ image }) => image));
  rival.start();
  for (const guest of guests) guest.start();
  const deaths = await die(host, options, rival, progress);
  await host.endUpgrades();
  for (const guest of guests) await guest.stop();
  await rival.stop();
  await watch.stop();
  const after = await storedAtRest(host);
  const problems = [
    ...rival.problems,
    ...guests.flatMap((guest) => guest.problems),
    ...(await leftovers(host, before, after)),
  ];
  const facts: Facts = {
    held: guests.flatMap(({ held }) => held),
    operations: guests.flatMap(({ operations }) => operations),
    deaths,
    free: watch.free,
    grants: rival.grants,
    problems,
    log: said(host).filter((line) => !ordinary.has(line)),
  };
  return {
    seed,
    seconds: Math.round((now() - began) / 1e9),
    deaths: counted(deaths.map(({ way }) => way)),
    operations: Object.fromEntries(
      [...Map.groupBy(facts.operations, ({ name }) => name)].map(([name, all]) => {
        const failed = all.filter(({ error }) => error !== undefined).length;
        return [name, { done: all.length - failed, failed }];
      }),
    ),
    waits: deaths.filter(({ way }) => way === 'kill').map(({ from, to }) => (to - from) / 1e6),
    answers: rival.answers,
    closed: rival.closed,
    stored: { before, after },
    findings: judge(facts),
  };
}

/** libvirtd's warnings and errors without times and numbers, so that equal ones can be compared. */
function said(host: Host): string[] {
  return host.log().map((line) =>
    line
      .replace(/^.*? (?=warning|error)/, '')
      .replaceAll(/guest\d+/g, 'GUEST')
      .replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
      .replaceAll(/\d+/g, 'N'),
  );
}

/** Ends the daemon `options.kills` times, or until no daemon serves any more. */
async function die(host: Host, options: Options, rival: Rival, { onDeath, signal }: Progress): Promise<Death[]> {
  const random = new Random(options.seed);
  const deaths: Death[] = [];
  while (deaths.length < options.kills && !signal.aborted) {
    await pause(random.oneIn(AT_ONCE) ? 0 : random.below(PAUSE_MS));
    const way = wayOf(random, options.ways);
    const from = now();
    const hasEnded = await end(host, way).catch((error: unknown) => {
      rival.problems.push({ at: now(), kind: 'cannot be ended', detail: `by ${way}: ${(error as Error).message}` });
      return false;
    });
    const to = await Promise.race([rival.answerSince(now()), pause(PATIENCE)]);
    if (hasEnded) {
      deaths.push({ way, from, to: to ?? now() });
      onDeath(deaths.length);
    }
    if (to !== undefined) continue;
    rival.problems.push({ at: now(), kind: 'no daemon serves', detail: `after death ${deaths.length}, by ${way}` });
    break;
  }
  return deaths;
}

function wayOf(random: Random, ways: readonly Way[]): Way {
  const others = ways.filter((way) => way !== 'kill');
  if (others.length === 0 || (ways.includes('kill') && random.oneIn(2))) return 'kill';
  return random.pick(others) ?? 'kill';
}

/** How many descriptors systemd keeps for a daemon without clients. */
async function storedAtRest(host: Host): Promise<number> {
  await host.must('systemctl', 'restart', 'virtlockd.service');
  return host.stored();
}

async function leftovers(host: Host, before: number, after: number): Promise<Problem[]> {
  const problems: Problem[] = [];
  const found = (kind: string, detail: string): number => problems.push({ at: now(), kind, detail });
  if (after !== before) found('left in the store', `${after} descriptors, ${before} before the first guest`);
  const check = await host.run('virt-lockctl', 'check');
  if (check.code !== 0) found('virt-lockctl check', check.stdout + check.stderr);
  const state = await host.must(
    'systemctl',
    'is-active',
    'virtlockd.service',
    'virtlockd.socket',
    'virtlockd-admin.socket',
  );
  if (!/^active\nactive\nactive$/.test(state)) found('units', state);
  return problems;
}

function counted(words: readonly string[]): Record<string, number> {
  return Object.fromEntries([...Map.groupBy(words, (word) => word)].map(([word, all]) => [word, all.length]));
}
