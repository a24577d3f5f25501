/** Long work in slices: the event loop has its turn between two of them, so clients wait for one slice at most. */
import { setImmediate as turn } from 'node:timers/promises';

/** Clients wait so long, in milliseconds, for any work that can be interrupted. */
export const SLICE_MS = 5;

/** Takes one item after the other. Throws what `items` or `take` throws. */
export async function inSlices<T>(items: Iterable<T>, take: (item: T) => void): Promise<void> {
  let until = performance.now() + SLICE_MS;
  for (const item of items) {
    take(item);
    if (performance.now() < until) continue;
    await turn();
    until = performance.now() + SLICE_MS;
  }
}
