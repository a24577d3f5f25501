/** Long work in slices, between which the event loop has its turn: clients wait no longer than for one of them. */
import { setImmediate as turn } from 'node:timers/promises';

/** How long a slice takes, in milliseconds. */
const SLICE_MS = 5;

/** Takes one item after the other. What `items` or `take` throws, this throws. */
export async function inSlices<T>(items: Iterable<T>, take: (item: T) => void): Promise<void> {
  let until = performance.now() + SLICE_MS;
  for (const item of items) {
    take(item);
    if (performance.now() < until) continue;
    await turn();
    until = performance.now() + SLICE_MS;
  }
}
