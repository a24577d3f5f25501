/** Whether a C daemon has as many free descriptors as our program needs to go on in its process: it does not count them. */
import { readdirSync } from 'node:fs';
import { descriptorLimits } from '../proc/limits.ts';
import { countBelow, lackOfRoom, LAUNCHER_DESCRIPTORS, RUNTIME_DESCRIPTORS } from '../restart/room.ts';

/**
 * Why it has not, and what to do; undefined when it has. All that is open counts: some of it is closed on exec, and what is
 * to be exchanged then is not known here.
 */
export function lackOfDescriptors(pid: number): string | undefined {
  const { soft, hard } = descriptorLimits(pid);
  const open = openIn(pid);
  if (hard === Infinity || open === null) return `cannot find out how many descriptors process ${pid} has free`;
  const lackBelow = (what: string, limit: number, needed: number): string | undefined =>
    lackOfRoom(what, { pid, limit, hard, used: countBelow(limit, open), needed });
  // The runtime begins with raising the soft limit to the hard one. What comes before it does not.
  return (
    lackBelow('the runtime', hard, RUNTIME_DESCRIPTORS) ??
    lackBelow("what the C daemon's state and our launcher take", soft, LAUNCHER_DESCRIPTORS)
  );
}

function openIn(pid: number): number[] | null {
  try {
    return readdirSync(`/proc/${pid}/fd`).map(Number);
  } catch {
    return null;
  }
}
