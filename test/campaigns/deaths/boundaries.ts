/** Kills the daemon at a certain system call of one operation on a guest, while no other client asks it for anything. */
import { Killer } from '../../../src/lab/killer.ts';
import type { Random } from '../../../src/programs/fuzz/random.ts';
import type { Guest, Name } from './guest.ts';
import type { Host } from './host.ts';

/** What the daemon has done when it enters a system call, and which one that is. strace kills it before the kernel begins the call. */
export const boundaries = {
  'before the connection is accepted': 'accept4',
  'before a call is read': 'recvmsg',
  'after it is read': 'statx',
  'before the lock is taken or freed': 'fcntl',
  'before the file is stored': 'sendmsg',
  'before the reply': 'sendto',
  'after the reply': 'epoll_wait',
} as const;
type Boundary = keyof typeof boundaries;

/** An operation makes several calls of the lock protocol: a connection's, a register, an acquire or release for each disk. */
const COUNTS = [1, 2, 3, 5] as const;

const operations = [
  'create',
  'suspend',
  'resume',
  'attach-disk',
  'detach-disk',
  'change-media',
  'migrate',
  'save',
  'restore',
  'destroy',
] as const satisfies readonly Name[];
type PlacedOperation = (typeof operations)[number];

export interface Place {
  readonly operation: PlacedOperation;
  readonly boundary: Boundary;
  readonly count: number;
}

/** All places, in an order that the seed decides. */
export function allPlaces(random: Random): Place[] {
  const all = operations.flatMap((operation) =>
    (Object.keys(boundaries) as Boundary[]).flatMap((boundary) =>
      COUNTS.map((count) => ({ operation, boundary, count })),
    ),
  );
  for (let left = all.length; left > 1; left--) {
    const [moved] = all.splice(random.below(left), 1);
    if (moved !== undefined) all.push(moved);
  }
  return all;
}

/** Does the operation with the killer at work. True if the daemon died of it. */
export async function dieAt(host: Host, guest: Guest, { operation, boundary, count }: Place): Promise<boolean> {
  if (!(await guest.prepare(operation))) return false;
  const pid = host.daemon();
  if (pid === undefined) return false;
  const killer = await Killer.at(pid, { [boundaries[boundary]]: `signal=KILL:when=${count}` });
  await guest.perform(operation);
  await killer.letGo();
  // On a busy machine the next one may not be there yet.
  return killer.hasKilled || host.daemon() !== pid;
}
