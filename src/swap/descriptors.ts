/** Counts the free descriptors of a C daemon, which executes our program without counting them. */
import { openDescriptors } from '../proc/descriptors.ts';
import { descriptorLimits } from '../proc/limits.ts';
import { countBelow, lackOfRoom, LAUNCHER_DESCRIPTORS, RUNTIME_DESCRIPTORS } from '../restart/room.ts';

/**
 * Why a C daemon has too few free descriptors for our program, and what to do; undefined if it has enough. Counts descriptors
 * that exec will close, too.
 */
export function lackOfDescriptors(pid: number): string | undefined {
  const { soft, hard } = descriptorLimits(pid);
  const open = openIn(pid);
  if (hard === Infinity || open === null) return `cannot find out how many descriptors process ${pid} has free`;
  const lackBelow = (what: string, limit: number, needed: number): string | undefined =>
    lackOfRoom(what, { pid, limit, hard, used: countBelow(limit, open), needed });
  // The runtime starts by raising the soft limit to the hard one. Our launcher runs under the soft limit.
  return (
    lackBelow('the runtime', hard, RUNTIME_DESCRIPTORS) ??
    lackBelow("our launcher, beside the C daemon's state,", soft, LAUNCHER_DESCRIPTORS)
  );
}

function openIn(pid: number): number[] | null {
  try {
    return openDescriptors(pid);
  } catch {
    return null;
  }
}
