/** The plan: seeded rounds, in each of which several owners end at once. The same seed makes the same plan. */
import { Random } from '../../../src/programs/fuzz/random.ts';

/** How the owner's end begins. The last two: the daemon itself ends, the owner with or without a connection of its own. */
export const causes = [
  'close',
  'half-close',
  'bad-length',
  'disconnect',
  'kill',
  'helper',
  'daemon-end',
  'daemon-end-unconnected',
] as const;
type Cause = (typeof causes)[number];

/** The owner's behaviour from then on: see native/writer.c. `hung`: it waits in state D for its storage. */
export const behaviours = ['dies', 'ignores', 'flushes', 'stopped', 'leaderless', 'replaced', 'hung'] as const;
type Behaviour = (typeof behaviours)[number];

export interface Way {
  readonly cause: Cause;
  readonly behaviour: Behaviour;
}

export const nameOf = ({ cause, behaviour }: Way): string => `${cause}/${behaviour}`;

export const isDaemonEnd = ({ cause }: Way): boolean => cause.startsWith('daemon-end');

function isPossible(way: Way): boolean {
  const { cause, behaviour } = way;
  // Nothing follows SIGKILL but a wait for the storage.
  if (cause === 'kill') return behaviour === 'dies' || behaviour === 'hung';
  if (cause === 'helper') return behaviour === 'dies';
  // What the daemon's own end is to do about a process that cannot be killed is systemd's to say: it has a time limit.
  if (isDaemonEnd(way) && behaviour === 'hung') return false;
  // These two begin with the end of the owner's connection.
  const hasNoConnection = cause === 'daemon-end-unconnected';
  return !(hasNoConnection && (behaviour === 'leaderless' || behaviour === 'replaced'));
}

/** Every way in which an owner ends. */
export const ways: readonly Way[] = causes.flatMap((cause) =>
  behaviours.map((behaviour) => ({ cause, behaviour })).filter(isPossible),
);

/** Those whose cause, behaviour or name (`close/hung`) is one of the words; all for none. */
export function waysNamed(words: readonly string[]): Way[] {
  const matches = (way: Way): boolean =>
    words.length === 0 || words.some((word) => word === way.cause || word === way.behaviour || word === nameOf(way));
  return ways.filter(matches);
}

/** Where the rival asks: the daemon of the owner, or another with the same storage. */
export type Host = 'own' | 'other';

/** By which name of the disk it asks. */
export type Alias = 'name' | 'hard' | 'link';

export interface RivalPlan {
  readonly host: Host;
  readonly does: 'acquire' | 'share' | 'release' | 'create' | 'delete' | 'bystander';
  readonly alias: Alias;
  /** The index of the disk. */
  readonly disk: number;
  /** Hangs up after waiting for so many ms; 0: never. */
  readonly patience: number;
}

export interface EndPlan {
  readonly way: Way;
  /** `direct`: the lock is on the disk. `indirect`: on a file of a lockspace, made by AUTOCREATE. */
  readonly place: 'direct' | 'indirect';
  readonly shared: boolean;
  readonly disks: number;
  /** The locks are acquired over a connection of another process, like libvirtd's, that is closed at once. */
  readonly byProxy: boolean;
  /** Between the first writes and the end, in ms. */
  readonly delay: number;
  /** The requests that the storage leaves unanswered. */
  readonly hangs: 'write' | 'fsync';
  /** For how many ms; null: until the daemon no longer keeps anybody waiting. Of a helper: how long it keeps the connection. */
  readonly pause: number | null;
  readonly rivals: readonly RivalPlan[];
}

/** A SIGUSR1 for one of the daemons, so many ms after the one before. */
export interface Restart {
  readonly after: number;
  readonly host: Host;
}

export interface RoundPlan {
  readonly index: number;
  readonly ends: readonly EndPlan[];
  /** Over and over until the round is over. */
  readonly restarts: readonly Restart[];
  /** Once the owners have their locks, the C daemon takes over from their daemon, and gives back. */
  readonly swaps: boolean;
  /** The owner's daemon is ended, and that ends them all. */
  readonly daemonEnds: boolean;
}

/** So many owners end together. */
const LANES = 5;
/** Streams of random numbers apart from those of rounds. */
const SHUFFLES = 0x40000000;

function shuffled<T>(items: readonly T[], random: Random): T[] {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = random.below(last + 1);
    const [one, two] = [result[last] as T, result[other] as T];
    result[last] = two;
    result[other] = one;
  }
  return result;
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}

/** The ways of a round: each of them comes once before any comes again. */
function waysOf(seed: number, index: number, among: readonly Way[]): readonly Way[] {
  const others = among.filter((way) => !isDaemonEnd(way));
  const groups = chunks(others, LANES).length + chunks(among.filter(isDaemonEnd), LANES).length;
  const random = new Random(seed, SHUFFLES + Math.floor(index / groups));
  const cycle = shuffled(
    [...chunks(shuffled(others, random), LANES), ...chunks(shuffled(among.filter(isDaemonEnd), random), LANES)],
    random,
  );
  return cycle[index % groups] ?? [];
}

function between(random: Random, least: number, most: number): number {
  return least + random.below(most - least + 1);
}

/** Those that every end has, then some of the others. */
function rivalsOf(random: Random, end: Omit<EndPlan, 'rivals'>): RivalPlan[] {
  const { place, way, disks, shared } = end;
  const rival = (host: Host, does: RivalPlan['does'], more: Partial<RivalPlan> = {}): RivalPlan => ({
    host,
    does,
    alias: 'name',
    disk: random.below(disks),
    patience: 0,
    ...more,
  });
  // The file system that hangs has no hard links, and to delete a disk by its only name would leave nothing to ask for.
  const hasLinks = place === 'direct' && way.behaviour !== 'hung';
  const isDeletable = place === 'indirect' || hasLinks;
  const deleted: Partial<RivalPlan> = { alias: place === 'direct' ? 'hard' : 'name' };
  const some: RivalPlan[] = [
    rival('own', 'acquire', { disk: 0 }),
    rival('own', 'share'),
    rival('own', 'create'),
    rival('own', 'release'),
    rival('own', 'acquire', { patience: between(random, 5, 120) }),
    rival('own', 'acquire', { patience: between(random, 100, 1500) }),
    rival('other', 'share'),
    ...(place === 'direct'
      ? [rival('own', 'acquire', { alias: 'link' }), rival('other', 'acquire', { alias: 'link' })]
      : []),
    ...(hasLinks ? [rival('own', 'acquire', { alias: 'hard' })] : []),
    ...(isDeletable ? [rival('own', 'delete', deleted), rival('other', 'delete', deleted)] : []),
  ];
  return [
    rival('own', 'bystander'),
    rival('own', 'acquire', { disk: 0 }),
    rival('other', 'acquire', { disk: 0 }),
    ...(shared ? [rival('own', 'share', { disk: 0 })] : []),
    ...shuffled(some, random).slice(0, between(random, 2, 6)),
  ];
}

function endOf(random: Random, way: Way): EndPlan {
  const isUnconnected = way.cause === 'daemon-end-unconnected';
  const isLong = way.behaviour === 'hung' && way.cause !== 'kill' && random.oneIn(2);
  const end = {
    way,
    place: random.pick(['direct', 'indirect'] as const),
    shared: random.oneIn(3),
    disks: random.pick([1, 1, 2, 3] as const),
    byProxy: isUnconnected || random.oneIn(4),
    delay: between(random, 0, 120),
    hangs: random.pick(['write', 'fsync'] as const),
    pause: isLong ? null : between(random, 50, 2200),
  };
  return { ...end, rivals: rivalsOf(random, end) };
}

/** None, a few, or a storm of them. */
function restartsOf(random: Random): Restart[] {
  const gap = random.pick([undefined, [200, 900], [20, 300]] as const);
  if (gap === undefined) return [];
  const [least, most] = gap;
  return Array.from({ length: 16 }, () => ({
    after: between(random, least, most),
    host: random.oneIn(4) ? ('other' as const) : ('own' as const),
  }));
}

/** @param among the ways to end in; at least one */
export function roundOf(seed: number, index: number, among: readonly Way[]): RoundPlan {
  const random = new Random(seed, index);
  const chosen = waysOf(seed, index, among);
  return {
    index,
    restarts: restartsOf(random),
    ends: chosen.map((way) => endOf(random, way)),
    // C tells nobody when an owner without a connection began, so that such a one may be a stranger by now, and is not ended.
    swaps: random.oneIn(4) && !chosen.some(({ cause }) => cause === 'daemon-end-unconnected'),
    daemonEnds: chosen.some(isDaemonEnd),
  };
}
