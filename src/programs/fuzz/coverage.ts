/** The coverage that instrument.ts counts. */

const counters = globalThis as { branchesCovered?: number };

/** The number of branches of the daemon's code that have run so far. */
export function branchesCovered(): number {
  return counters.branchesCovered ?? 0;
}
