import assert from 'node:assert/strict';
import path from 'node:path';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { Budget, holdCost, limitsFor } from '../../../src/lockspace/budget.ts';
import { Lockspaces } from '../../../src/lockspace/lockspaces.ts';
import type { HoldEnd } from '../../../src/lockspace/owner.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { useTemporaryDirectory } from '../support/locks.ts';

const STEPS = 3000;
const NAMES = ['n1', 'n2', 'n3', 'x'.repeat(200), '\u0001'.repeat(140)];

/** The private accounts. */
interface Accounts {
  readonly byOwner: { get(pid: number): { cost: number } | undefined; readonly size: number };
  readonly byClient: { get(id: number): { cost: number } | undefined; readonly size: number };
}

/** Returns random numbers from 0 to `count` - 1, the same for the same seed. */
function generator(seed: number): (count: number) => number {
  let state = (seed * 2654435761) >>> 0;
  return (count) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % count;
  };
}

function add(sums: Map<number, number>, key: number, cost: number): void {
  sums.set(key, (sums.get(key) ?? 0) + cost);
}

/** Every account equals the cost of its holds. */
function assertSums(lockspaces: Lockspaces, where: string): void {
  let total = 0;
  const [owners, clients] = [new Map<number, number>(), new Map<number, number>()];
  for (const { lockspace, name, holds } of lockspaces.resources()) {
    for (const { owner, client } of holds) {
      const cost = holdCost(lockspace.directory, name, owner.name);
      total += cost;
      add(owners, owner.pid, cost);
      add(clients, client, cost);
    }
  }
  const { byOwner, byClient } = lockspaces as unknown as Accounts;
  assert.equal(lockspaces.budget.used, total, where);
  assert.deepEqual([byOwner.size, byClient.size], [owners.size, clients.size], where);
  for (const [pid, cost] of owners) assert.equal(byOwner.get(pid)?.cost, cost, `owner ${pid}, ${where}`);
  for (const [id, cost] of clients) assert.equal(byClient.get(id)?.cost, cost, `client ${id}, ${where}`);
}

describe('the budget over random sequences', () => {
  const directory = useTemporaryDirectory();

  for (let seed = 1; seed <= 20; seed++) {
    it(`stays the sum of what is held: ${seed}`, () => {
      const random = generator(seed);
      const lockspaces = new Lockspaces(dialectOf(12_008_000), new Budget(() => limitsFor(1e9)));
      const others = ['a', 'b'].map((name) => lockspaces.create(path.join(directory.path, name)));
      const ends: HoldEnd[] = [];
      let nextEnd = 1;

      const step = (): void => {
        const lockspace = others[random(3)] ?? lockspaces.default;
        const base = NAMES[random(NAMES.length)] ?? '';
        const name = lockspace.directory === '' ? path.join(directory.path, base) : base;
        const pid = 100 + random(3);
        const what = random(12);
        if (what < 5) {
          const owner = { pid, id: random(2) + 1, name: random(2) === 0 ? 'o' : 'p'.repeat(50), uuid: 'u' };
          const flags = (random(4) === 0 ? 0 : 1) | (random(4) === 0 ? 0 : 2);
          lockspaces.acquire(lockspace, name, modeOf(flags), {
            owner: random(2) === 0 ? owner : { ...owner, startTime: random(2) },
            since: 0,
            client: random(3),
          });
        } else if (what < 9) lockspaces.release(lockspace, name, pid);
        else if (what === 9) {
          const end: HoldEnd = { id: nextEnd++, isAwaited: false, isGone: false, wait: () => () => undefined };
          for (const { holds } of lockspaces.heldBy(pid)) {
            for (const hold of holds) if (hold.owner.pid === pid) hold.end ??= end;
          }
          ends.push(end);
        } else if (what === 10) {
          const [end] = ends.splice(0, 1);
          if (end !== undefined) {
            for (const resource of [...lockspaces.resources()]) lockspaces.releaseEnded(resource, end);
          }
        } else if (random(5) === 0) {
          const [resource] = lockspaces.resources();
          if (resource !== undefined) lockspaces.endResource(resource);
        }
      };

      for (let index = 0; index < STEPS; index++) {
        try {
          step();
        } catch (error) {
          if (!(error instanceof RpcError)) throw error;
        }
        assertSums(lockspaces, `step ${index}`);
      }
      for (const resource of [...lockspaces.resources()]) lockspaces.endResource(resource);
      assert.equal(lockspaces.budget.used, 0);
    });
  }
});
