import assert from 'node:assert/strict';
import path from 'node:path';
import { matchingLocks } from '../../../src/inquire/locks.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { Lockspaces } from '../../../src/lockspace/lockspaces.ts';
import { unknownOwner } from '../../../src/lockspace/owner.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { temporaryDirectory } from '../support/locks.ts';

const SHARED_AUTOCREATE = 3;
const EVERY = { lockspace: null, resource: null, path: null, pid: null, uuid: null, owner: null };

describe('listed locks', () => {
  it('come in entries of bounded size, however long the names of their owners are', () => {
    const directory = temporaryDirectory();
    const lockspaces = new Lockspaces(dialectOf(12_008_000));
    const name = path.join(directory.path, 'disk');
    const HOLDS = 40;
    for (let pid = 1; pid <= HOLDS; pid++) {
      const owner = { ...unknownOwner(5_000_000 + pid), id: 1, name: 'x'.repeat(60_000) };
      lockspaces.acquire(lockspaces.default, name, modeOf(SHARED_AUTOCREATE), { owner, since: 0, client: 1 });
    }
    const firsts: number[] = [];
    const pids: number[] = [];
    for (const step of matchingLocks(lockspaces, EVERY, false)) {
      assert.ok(step !== null);
      assert.ok(step.size > step.entry.holds.length * 60_000, 'the names count');
      assert.ok(step.size < 200_000);
      firsts.push(step.entry.firstHold);
      pids.push(...step.entry.holds.map(({ owner: { pid } }) => pid));
      assert.equal(step.entry.holdCount, HOLDS);
      assert.equal(step.entry.firstHold + step.entry.holds.length, pids.length);
    }
    assert.equal(firsts[0], 0);
    assert.deepEqual(
      pids,
      Array.from({ length: HOLDS }, (_, index) => 5_000_001 + index),
    );
    for (const resource of [...lockspaces.resources()]) lockspaces.endResource(resource);
    directory.remove();
  });
});
