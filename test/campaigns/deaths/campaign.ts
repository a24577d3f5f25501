/** One run: operates guests, has rivals ask for their disks, and ends the daemon again and again. */
import { setTimeout as pause } from 'node:timers/promises';
import { ForkWatch } from '../../../src/lab/forks.ts';
import { Random } from '../../../src/programs/fuzz/random.ts';
import { allPlaces, dieAt, type Place } from './boundaries.ts';
import { type Death, type Facts, type Line, now } from './facts.ts';
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
  readonly release: string;
  readonly seed: number;
  readonly seconds: number;
  readonly deaths: Readonly<Record<string, number>>;
  readonly operations: Readonly<Record<string, { readonly done: number; readonly failed: number }>>;
  /** For each way, the times until the rival's next answer, in ms. */
  readonly waits: Readonly<Record<string, readonly number[]>>;
  /** How often the daemon died in each operation at each boundary. */
  readonly places: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** The rival's answers, and its connections that were closed. */
  readonly answers: number;
  readonly closed: number;
  readonly stored: { readonly before: number; readonly after: number };
  /** Errors of libvirt that belong to calls that died, by reason. */
  readonly accepted: Readonly<Record<string, number>>;
  readonly findings: readonly Finding[];
  /** For JSON. */
  readonly facts: Facts;
}

interface Progress {
  readonly onDeath: (count: number) => void;
  readonly signal: AbortSignal;
}

export async function run(options: Options, progress: Progress): Promise<Report> {
  const host = await Host.boot(options.release);
  try {
    await host.hastenWatchdog();
    await host.startLibvirtd();
    await host.startPeer();
    return await new Campaign(host, options, progress).play();
  } finally {
    await host.stop();
  }
}

class Campaign {
  readonly #host: Host;
  readonly #options: Options;
  readonly #progress: Progress;
  readonly #guests: readonly Guest[];
  readonly #rival: Rival;
  readonly #random: Random;
  readonly #places: Place[];
  readonly #deaths: Death[] = [];
  readonly #placed: Place[] = [];

  constructor(host: Host, options: Options, progress: Progress) {
    const { seed, guests } = options;
    this.#host = host;
    this.#options = options;
    this.#progress = progress;
    this.#guests = Array.from({ length: guests }, (_, i) => new Guest(host, `guest${i}`, new Random(seed, i + 1)));
    this.#rival = new Rival(host, this.#files(), (file) => this.#isHeld(file));
    this.#random = new Random(seed);
    this.#places = allPlaces(new Random(seed, guests + 1));
  }

  async play(): Promise<Report> {
    const host = this.#host;
    const began = now();
    // The count of a fresh daemon without clients.
    const before = await this.#storedAtRest();
    await this.#guests[0]?.rehearse();
    const ordinary = new Set(said(host).map(({ text }) => text));
    const watch = new Watch(this.#files());
    const forks = new ForkWatch(() => host.libvirtds());
    this.#rival.start();
    for (const guest of this.#guests) guest.start();
    await this.#die();
    await host.endUpgrades();
    await Promise.all(this.#guests.map(async (guest) => guest.end()));
    await this.#rival.stop();
    await watch.stop();
    forks.stop();
    const after = await this.#storedAtRest();
    await this.#findLeftovers(before, after);
    const facts: Facts = {
      held: this.#guests.flatMap(({ held }) => held),
      operations: this.#guests.flatMap(({ operations }) => operations),
      deaths: this.#deaths,
      free: watch.free,
      grants: this.#rival.grants,
      forks: forks.killed,
      problems: [...this.#rival.problems, ...this.#guests.flatMap(({ problems }) => problems)],
      log: said(host).filter(({ text }) => !ordinary.has(text)),
    };
    return {
      release: this.#options.release.name,
      seed: this.#options.seed,
      seconds: Math.round((now() - began) / 1e9),
      deaths: counted(this.#deaths.map(({ way }) => way)),
      operations: byKey(
        facts.operations,
        ({ name }) => name,
        (all) => {
          const failed = all.filter(({ error }) => error !== undefined).length;
          return { done: all.length - failed, failed };
        },
      ),
      waits: byKey(
        // No rival waits for the answer while a death is placed.
        this.#deaths.filter(({ way }) => way !== 'placed'),
        ({ way }) => way,
        (all) => all.map(({ from, to }) => (to - from) / 1e6),
      ),
      places: byKey(
        this.#placed,
        ({ operation }) => operation,
        (all) => counted(all.map(({ boundary }) => boundary)),
      ),
      answers: this.#rival.answers,
      closed: this.#rival.closed,
      stored: { before, after },
      ...judge(facts),
      facts,
    };
  }

  #files(): string[] {
    const all = this.#guests.flatMap(({ disks: { image, shared, extra, media } }) => [image, shared, extra, ...media]);
    return [...new Set(all)];
  }

  /** A shared disk counts while two guests have it: its last lock may end before the rival has its answer. */
  #isHeld(file: string): boolean {
    const holders = this.#guests.filter(({ heldFiles }) => heldFiles.includes(file)).length;
    const isShared = this.#guests.every(({ disks }) => disks.shared === file);
    return holders > (isShared ? 1 : 0);
  }

  #problem(kind: string, detail: string): void {
    this.#rival.problems.push({ at: now(), kind, detail });
  }

  /** Ends the daemon `kills` times, or until no daemon serves any more. */
  async #die(): Promise<void> {
    const { kills, ways } = this.#options;
    const { onDeath, signal } = this.#progress;
    while (this.#deaths.length < kills && !signal.aborted) {
      const way = wayOf(this.#random, ways);
      const death = way === 'placed' ? await this.#dieAtPlace() : await this.#dieBy(way);
      if (death !== undefined) {
        this.#deaths.push(death);
        onDeath(this.#deaths.length);
      }
      if (await this.#isServed()) continue;
      this.#problem('no daemon serves', `after death ${this.#deaths.length}, by ${way}`);
      break;
    }
  }

  async #dieBy(way: Exclude<Way, 'placed'>): Promise<Death | undefined> {
    await pause(this.#random.oneIn(AT_ONCE) ? 0 : this.#random.below(PAUSE_MS));
    const from = now();
    const hasEnded = await end(this.#host, way).catch((error: unknown) => {
      this.#problem('cannot be ended', `by ${way}: ${(error as Error).message}`);
      return false;
    });
    const to = await Promise.race([this.#rival.answerSince(now()), pause(PATIENCE)]);
    return hasEnded ? { way, from, to: to ?? now() } : undefined;
  }

  /** Only one guest and the daemon act, so that the call that is interrupted is this guest's. */
  async #dieAtPlace(): Promise<Death | undefined> {
    const place = this.#places.shift();
    const guest = this.#random.pick(this.#guests);
    if (place === undefined || guest === undefined) return undefined;
    this.#places.push(place);
    await Promise.all(this.#guests.map(async (one) => one.stop()));
    await this.#rival.stop();
    const from = now();
    const hasDied = await dieAt(this.#host, guest, place);
    this.#rival.start();
    for (const one of this.#guests) one.start();
    if (!hasDied) return undefined;
    this.#placed.push(place);
    return { way: 'placed', place: Object.values(place).join(', '), from, to: now() };
  }

  async #isServed(): Promise<boolean> {
    return (await Promise.race([this.#rival.answerSince(now()), pause(PATIENCE)])) !== undefined;
  }

  /** How many descriptors systemd keeps for a daemon without clients. */
  async #storedAtRest(): Promise<number> {
    await this.#host.must('systemctl', 'restart', 'virtlockd.service');
    return this.#host.stored();
  }

  async #findLeftovers(before: number, after: number): Promise<void> {
    const host = this.#host;
    if (after !== before) this.#problem('left in the store', `${after} descriptors, ${before} before the first guest`);
    const check = await host.run('virt-lockctl', 'check');
    if (check.code !== 0) this.#problem('virt-lockctl check', check.stdout + check.stderr);
    const units = ['virtlockd.service', 'virtlockd.socket', 'virtlockd-admin.socket'];
    const state = await host.must('systemctl', 'is-active', ...units);
    if (!/^active\nactive\nactive$/.test(state)) this.#problem('units', state);
  }
}

/** Warnings and errors of both libvirtds without numbers and names, so that equal ones can be compared. */
function said(host: Host): Line[] {
  const offset = now() - Date.now() * 1e6;
  return host.log().map(({ at, text }) => ({
    at: at * 1e6 + offset,
    text: text
      .replaceAll(/guest\d+/g, 'GUEST')
      .replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
      .replaceAll(/\d+/g, 'N'),
  }));
}

function wayOf(random: Random, ways: readonly Way[]): Way {
  const isOften = (way: Way): boolean => way === 'kill' || way === 'placed';
  const often = ways.filter(isOften);
  const others = ways.filter((way) => !isOften(way));
  const among = others.length === 0 || (often.length > 0 && !random.oneIn(often.length + 1)) ? often : others;
  return random.pick(among) ?? 'kill';
}

function counted(words: readonly string[]): Record<string, number> {
  return byKey(
    words,
    (word) => word,
    (all) => all.length,
  );
}

function byKey<T, R>(all: readonly T[], key: (one: T) => string, sum: (some: readonly T[]) => R): Record<string, R> {
  return Object.fromEntries([...Map.groupBy(all, key)].map(([name, some]) => [name, sum(some)]));
}
