/** How much code has run so far: see instrument.ts, which counts. */

const counters = globalThis as { branchesCovered?: number };

/** Branches of the daemon's code that have run; it only grows. */
export function branchesCovered(): number {
  return counters.branchesCovered ?? 0;
}
