/** The way of a restart: which calls are made, and which of them are to fail how. */
import { Random } from '../../../src/programs/fuzz/random.ts';
import { failuresOf } from './errors.ts';
import type { Injection } from './tracer.ts';

/** How often each call is made, by its key. */
export type Way = Map<string, number>;

/** All that was met in any of these restarts. */
export function wayOf(restarts: readonly (readonly string[])[]): Way {
  const way: Way = new Map();
  for (const calls of restarts) {
    const counts: Way = new Map();
    for (const key of calls) counts.set(key, (counts.get(key) ?? 0) + 1);
    for (const [key, count] of counts) way.set(key, Math.max(count, way.get(key) ?? 0));
  }
  return way;
}

/** Which of `count` equal calls fail: the first three, then ever fewer. */
function nthsOf(count: number): number[] {
  const nths: number[] = [];
  for (let nth = 1; nth <= count; nth = nth < 3 ? nth + 1 : nth === 3 ? 4 : nth * 2) nths.push(nth);
  return nths;
}

/** One for each call, each of its errors, and each of its occurrences up to the `last`. */
export function injectionsOn(way: Way, last = Infinity): Injection[] {
  return [...way].flatMap(([key, count]) =>
    nthsOf(Math.min(count, last)).flatMap((nth) => failuresOf(key).map((failure) => ({ key, nth, ...failure }))),
  );
}

/** So many of them, the same for the same seed. */
export function sampleOf<T>(items: readonly T[], count: number, seed: number): T[] {
  const random = new Random(seed);
  const left = [...items];
  const taken: T[] = [];
  while (taken.length < count && left.length > 0) taken.push(...left.splice(random.below(left.length), 1));
  return taken;
}

/** In words. */
export function describe({ key, nth, error, after }: Injection): string {
  return `${key} #${nth}: ${error}${after ? ' after it was carried out' : ''}`;
}
