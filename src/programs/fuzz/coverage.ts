/** How much code has run so far: see instrument.ts, which counts. */

const counters = globalThis as { branchesCovered?: number };

/** Whether branches are counted in this process. */
export function isCounted(): boolean {
  return counters.branchesCovered !== undefined;
}

/** Branches of the daemon's code that have run; it only grows. */
export function branchesCovered(): number {
  return counters.branchesCovered ?? 0;
}
