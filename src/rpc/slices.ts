/** Long work in slices with turns of the event loop between them: clients wait for one slice at most. */
import { setImmediate as turn } from 'node:timers/promises';

/** Clients wait so long, in milliseconds, for any work that can be interrupted. */
export const SLICE_MS = 5;

/** Calls `take` with one item after the other. Rejects with whatever `items` or `take` throws. */
export async function inSlices<T>(items: Iterable<T>, take: (item: T) => void): Promise<void> {
  let until = performance.now() + SLICE_MS;
  for (const item of items) {
    take(item);
    if (performance.now() < until) continue;
    await turn();
    until = performance.now() + SLICE_MS;
  }
}
