/** Long work in slices with turns of the event loop between them: clients wait for one slice at most. */
import { now } from '../posix/clock.ts';

/** Clients wait so long, in milliseconds, for any work that can be interrupted. */
export const SLICE_MS = 5;

/** Resolves in the next turn of the event loop. (That of node:timers/promises is one more module to load at a start.) */
export async function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Calls `take` with one item after the other. Rejects with whatever `items` or `take` throws. */
export async function inSlices<T>(items: Iterable<T>, take: (item: T) => void): Promise<void> {
  let until = now() + SLICE_MS;
  for (const item of items) {
    take(item);
    if (now() < until) continue;
    await turn();
    until = now() + SLICE_MS;
  }
}
