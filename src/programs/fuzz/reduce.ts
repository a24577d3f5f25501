/** Makes an input that shows a defect as short as it can be while it still shows it. */

/** How long a reduction may take, in ms: a try may wait for answers that do not come. */
const MAX_MS = 30_000;

/** Removes items, in large pieces first, while `shows` stays true. At most `limit` tries. */
export async function reduceList<T>(
  items: readonly T[],
  shows: (items: readonly T[]) => boolean | Promise<boolean>,
  limit: number,
): Promise<readonly T[]> {
  let best = items;
  let tries = 0;
  const until = performance.now() + MAX_MS;
  for (let size = Math.ceil(best.length / 2); size >= 1 && tries < limit; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < best.length && tries < limit && performance.now() < until; tries++) {
      const shorter = [...best.slice(0, at), ...best.slice(at + size)];
      if (shorter.length > 0 && (await shows(shorter))) best = shorter;
      else at += size;
    }
  }
  return best;
}
