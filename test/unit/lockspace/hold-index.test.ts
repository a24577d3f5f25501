/** Very many owners share one resource, and release it one after the other. */
import assert from 'node:assert/strict';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { type Lockspace, Lockspaces, NO_LOCK_RECORDER, type Resource } from '../../../src/lockspace/lockspaces.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { type Hold, type HoldEnd, unknownOwner } from '../../../src/lockspace/owner.ts';
import { Random } from '../../../src/programs/fuzz/random.ts';
import { temporaryDirectory } from '../support/locks.ts';

const SHARED_AUTOCREATE = modeOf(3);
const STEPS = 5000;
const OWNERS = 800;
const END: HoldEnd = { id: 1, isAwaited: false, isGone: false, wait: () => () => undefined };

describe('very many holds on one resource', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let lockspaces: Lockspaces;
  let lockspace: Lockspace;

  beforeEach(() => {
    directory = temporaryDirectory();
    lockspaces = new Lockspaces(dialectOf(9_000_000));
    lockspace = lockspaces.add(directory.path);
  });
  afterEach(() => {
    for (const resource of [...lockspaces.resources()]) lockspaces.endResource(resource);
    directory.remove();
  });

  function acquire(pid: number): Hold {
    const hold: Hold = { owner: unknownOwner(pid), since: 0, client: 0 };
    lockspaces.acquire(lockspace, 'disk', SHARED_AUTOCREATE, hold);
    return hold;
  }

  function resource(): Resource {
    const found = lockspace.resources.get('disk');
    assert.ok(found !== undefined);
    return found;
  }

  for (let seed = 1; seed <= 3; seed++) {
    it(`are those, and in that order, of a plain list, and so recorded: ${seed}`, () => {
      const random = new Random(seed);
      const holds: Hold[] = [acquire(1)];
      let recorded: readonly number[] = [];
      lockspaces.recorder = { ...NO_LOCK_RECORDER, holdsDropped: (_, indexes) => (recorded = indexes) };
      for (let step = 0; step < STEPS; step++) {
        // First it grows, then it shrinks.
        const isGrowing = random.below(STEPS) > step;
        const pid = 2 + random.below(OWNERS);
        const at = holds.findIndex(({ owner, end }) => owner.pid === pid && end === undefined);
        const hold = holds[at];
        if (isGrowing) holds.push(acquire(pid));
        else if (hold !== undefined && random.oneIn(100)) hold.end = END;
        else if (hold !== undefined) {
          lockspaces.release(lockspace, 'disk', pid);
          assert.deepEqual(recorded, [at]);
          holds.splice(at, 1);
        } else
          assert.throws(() => {
            lockspaces.release(lockspace, 'disk', pid);
          });
        assert.equal(resource().holdCount, holds.length);
        assert.equal(
          resource().isHeldBy(pid),
          holds.some(({ owner }) => owner.pid === pid),
        );
        if (random.oneIn(500)) assert.deepEqual(resource().holds, holds);
        if (random.oneIn(1000)) {
          lockspaces.releaseEnded(resource(), END);
          holds.splice(0, holds.length, ...holds.filter(({ end }) => end === undefined));
        }
      }
      assert.deepEqual(resource().holds, holds);
    });
  }

  for (const order of ['that of their acquisition', 'the reverse order']) {
    it(`are released in ${order} without a visit of all the others each time`, () => {
      const visits = (count: number): number => {
        let visited = 0;
        const pids = Array.from({ length: count }, (_, index) => index + 1);
        for (const pid of pids) acquire(pid);
        const shared = resource();
        for (const [index, hold] of [...shared.holds].entries()) {
          const get = (target: Hold, key: keyof Hold): unknown => {
            visited++;
            return target[key];
          };
          shared.replaceHold(index, new Proxy(hold, { get }));
        }
        if (order === 'the reverse order') pids.reverse();
        for (const pid of pids) lockspaces.release(lockspace, 'disk', pid);
        return visited;
      };
      const few = visits(1000);
      assert.ok(visits(4000) <= 6 * few, 'four times as many take about four times as long');
    });
  }
});
