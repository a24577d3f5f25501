/** The daemon's deaths, and what the next one would cost, in words. */
import { endText } from '../../../store/journal.ts';
import { count } from '../output.ts';

/** As it completes "what a death of the daemon". */
export function survivalText(locks: number, counters: ReadonlyMap<string, number>): string {
  const valueOf = (key: string): number => counters.get(key) ?? 0;
  const mortal = valueOf('mortalLocks');
  if (counters.get('store') !== 1) {
    const why = counters.get('store') === 0 ? 'there is no descriptor store' : 'no descriptor store is known';
    return `the next would cost all locks: ${why}`;
  }
  const reasons = [
    [valueOf('mortalRemote'), 'on file systems that may hang'],
    [mortal - valueOf('mortalRemote'), 'that are not kept for the next daemon'],
  ] as const;
  const why = reasons.filter(([number]) => number > 0).map(([number, reason]) => `${number} ${reason}`);
  const [stored, limit] = [valueOf('stored'), valueOf('storeLimit')];
  const isFull = limit > 0 && stored >= limit;
  const full = isFull
    ? `; the store is full (${count(stored, 'descriptor')}): other clients would be disconnected`
    : '';
  const missing =
    valueOf('storeMissing') === 0 ? '' : `; not stored yet: ${count(valueOf('storeMissing'), 'descriptor')}`;
  const cost = mortal === 0 ? 'no lock' : `${mortal} of ${count(locks, 'lock')} (${why.join(', ')})`;
  return `the next would cost ${cost}${full}${missing}`;
}

interface LastDeath {
  readonly time: string;
  readonly reason: string;
  /** For how many milliseconds no client was served; null where that is not known. */
  readonly gap: number | null;
}

/** Null when there was none, or the daemon's release does not report any. */
function lastDeathOf(counters: ReadonlyMap<string, number>): LastDeath | null {
  const keys = ['lastDeath', 'lastDeathSignal', 'lastDeathStatus', 'lastDeathGap'];
  const [time, signal, status, gap = null] = keys.map((key) => counters.get(key));
  if (time === undefined) return null;
  let reason = 'ended in a way that is not known';
  if (signal !== undefined) reason = endText({ signal });
  else if (status !== undefined) reason = endText({ status });
  return { time: new Date(time).toISOString(), reason, gap };
}

/** As it follows the number of deaths; empty when nothing is known of the last one. */
export function lastDeathText(counters: ReadonlyMap<string, number>): string {
  const last = lastDeathOf(counters);
  if (last === null) return '';
  const gap = last.gap === null ? '' : `, and no client was served for ${last.gap} ms`;
  return `, the last at ${last.time}: it ${last.reason}${gap}`;
}

/** `deaths` is null for a daemon that does not report them. */
export function deathsJson(counters: ReadonlyMap<string, number>): Record<string, unknown> {
  return { deaths: counters.get('deaths') ?? null, lastDeath: lastDeathOf(counters) };
}
