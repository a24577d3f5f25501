/** The list of owners: whether each lives, and what ends its holds. */
import { OwnerEnding, OwnerLife, type OwnerState } from '../../xdr/programs/inquire.ts';
import { isNobodyHere, lifeOf } from '../lockd/owner-life.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import type { Hold, OwnerIdentity } from '../lockspace/owner.ts';
import type { InquireHost } from './host.ts';
import { describeOwner } from './owners.ts';
import type { Step } from './pages.ts';

/** Approximate bytes of an entry without the owner's name. */
const OWNER_SIZE = 90;

const LIVES = {
  alive: OwnerLife.ALIVE,
  dead: OwnerLife.DEAD,
  absent: OwnerLife.ABSENT,
  unknown: OwnerLife.UNKNOWN,
} as const;

interface Found {
  readonly owner: OwnerIdentity;
  holds: number;
  isEnding: boolean;
}

/** Counts every hold once: a resource may have very many, of as many owners. */
export function* describeOwners(host: InquireHost, pid: number | null): Generator<Step<OwnerState>> {
  const { lockspaces, processes, ownerReaper, servers } = host;
  const resources: Iterable<Resource> = pid === null ? lockspaces.resources() : lockspaces.heldBy(pid);
  const owners = new Map<string, Found>();
  for (const { holds } of resources) {
    for (const hold of holds) {
      if (pid === null || hold.owner.pid === pid) count(owners, hold);
      yield null;
    }
  }
  const connected = new Set<number>();
  for (const { context } of servers[0].adoptAll().values()) {
    if (context.isOwnerItself && context.owner !== null) connected.add(context.owner.pid);
  }
  const watched = ownerReaper.pidsWatched;
  for (const { owner, holds, isEnding } of owners.values()) {
    const life = LIVES[lifeOf(owner, processes)];
    const entry = { owner: describeOwner(owner), holds, ending: OwnerEnding.UNKNOWN as number, life };
    if (isEnding) entry.ending = OwnerEnding.BEGUN;
    else if (isNobodyHere(owner)) entry.ending = OwnerEnding.RELEASE;
    else if (life === OwnerLife.DEAD) entry.ending = OwnerEnding.UNKNOWN;
    else if (connected.has(owner.pid)) entry.ending = OwnerEnding.CONNECTION;
    else if (watched.has(owner.pid)) entry.ending = OwnerEnding.PROCESS;
    yield { entry, size: OWNER_SIZE + owner.name.length };
  }
}

function count(owners: Map<string, Found>, { owner, end }: Hold): void {
  const { pid, id, name, uuid, startTime, isForeign } = owner;
  const key = `${pid} ${id} ${uuid} ${startTime} ${isForeign === true} ${name}`;
  const found = owners.get(key);
  if (found === undefined) owners.set(key, { owner, holds: 1, isEnding: end !== undefined });
  else {
    found.holds++;
    if (end === undefined) found.isEnding = false;
  }
}
