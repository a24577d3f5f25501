import assert from 'node:assert/strict';
import path from 'node:path';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { Budget, holdCost, limitsFor } from '../../../src/lockspace/budget.ts';
import { restoreReference } from '../../../src/lockspace/files.ts';
import { type Lockspace, Lockspaces } from '../../../src/lockspace/lockspaces.ts';
import { type Hold, type HoldEnd, type OwnerIdentity, unknownOwner } from '../../../src/lockspace/owner.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { temporaryDirectory } from '../support/locks.ts';

const MIB = 1024 * 1024;
const SHARED = 1;
const AUTOCREATE = 2;
const LIMITS = { total: 20_000, one: 10_000, lockspaces: 8_000, names: 50_000 };

function owner(pid: number, startTime?: number, name = `guest${pid}`): OwnerIdentity {
  return { ...unknownOwner(pid), id: 1, name, ...(startTime === undefined ? {} : { startTime }) };
}

describe('the cost of holds', () => {
  it('leaves room for 100 000 locks of ordinary names wherever the heap may have 512 MiB, for one owner too', () => {
    const name = '/var/lib/libvirt/images/'.padEnd(100, 'x');
    const locks = 100_000 * holdCost('', name, 'an-ordinary-guest');
    assert.ok(locks < limitsFor(512 * MIB).one);
    assert.ok(locks < limitsFor(4 * 1024 * MIB).total / 2);
    const indirect = 100_000 * holdCost('/var/lib/libvirt/lockd/files', '5'.repeat(64), 'an-ordinary-guest');
    assert.ok(indirect < limitsFor(512 * MIB).one);
  });

  it('is at least what a hold takes of the state document, but for names below 128 bytes', () => {
    for (const [directory, name, guest] of [
      ['', '\x01'.repeat(4095), '\x01'.repeat(65_536)],
      ['\x01'.repeat(2000), '"'.repeat(2000), 'g'],
      ['', '/disk', 'g'],
    ] as const) {
      const place = directory === '' ? name : `${directory}/${name}`;
      const hold = { id: 1, name: guest, uuid: 'x'.repeat(36), since: 1e12, client: 1e6, start: 1e9, ending: 1e6 };
      const state = { name, path: place, fd: 1e5, lockHeld: true, flags: 3, owners: [4e6], 'x-holds': [hold] };
      const inode = { 'x-inode': 'x'.repeat(60), 'x-lock': 'posix-degraded' };
      assert.ok(holdCost(directory, name, guest) >= JSON.stringify({ ...state, ...inode }).length);
    }
  });

  it('is bounded by half of the heap, and where that is large by the longest string that the runtime has', () => {
    assert.equal(limitsFor(64 * MIB).total, 32 * MIB);
    const { total, lockspaces, names } = limitsFor(64 * 1024 * MIB);
    assert.ok(total * 1.35 + lockspaces + names < 512 * MIB);
  });

  it('looks up no limit while there is little', () => {
    const budget = new Budget(() => assert.fail('looked up'));
    budget.admit(1_000_000, undefined, undefined);
    budget.count(1_000_000);
    budget.admitLockspace('/some/where');
    budget.replaceName('', 'x'.repeat(10_000));
  });
});

describe('lockspaces within a budget', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let lockspaces: Lockspaces;
  let files: Lockspace;

  beforeEach(() => {
    directory = temporaryDirectory();
    lockspaces = new Lockspaces(dialectOf(12_008_000), new Budget(() => LIMITS));
    assert.equal(lockspaces.budget.limits, LIMITS);
    files = lockspaces.default;
  });
  afterEach(() => {
    for (const resource of [...files.resources.values()]) lockspaces.endResource(resource);
    directory.remove();
  });

  const at = (name: string): string => path.join(directory.path, name);
  const acquire = (name: string, who: OwnerIdentity, client = 1): Hold => {
    const hold = { owner: who, since: 0, client };
    lockspaces.acquire(files, at(name), modeOf(SHARED | AUTOCREATE), hold);
    return hold;
  };
  /** The number granted before a refusal, and the reason of that. */
  const untilRefused = (next: (index: number) => void): [number, string] => {
    for (let index = 0; ; index++) {
      try {
        next(index);
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        return [index, error.message];
      }
    }
  };

  it('refuse what is too much for an owner, a connection or in all, and grant it when there is room again', () => {
    const one = owner(1);
    const [granted, why] = untilRefused((index) => acquire(`a${index}`, one, index));
    assert.equal(why, 'internal error: out of memory: the locks of one owner may take 10000 bytes of it');
    assert.equal(granted, Math.floor(LIMITS.one / holdCost('', at('a0'), one.name)));
    // Shared by others: one more hold on a resource costs as much.
    const [, same] = untilRefused((index) => acquire('a0', owner(100 + index), 77));
    assert.match(same, /: the locks acquired through one connection may take/);
    const [, all] = untilRefused((index) => acquire('b', owner(200 + index), 100 + index));
    assert.match(all, /: the locks of all owners may take/);
    assert.equal(
      files.resources.get(at('b'))?.holds.some(({ owner: { pid } }) => pid === 1),
      false,
    );
    lockspaces.release(files, at('a0'), 1);
    acquire('c', one);
  });

  it('leave nothing behind of a refused acquire', () => {
    const huge = owner(1, undefined, 'x'.repeat(2000));
    assert.throws(() => acquire('a', huge), /out of memory/);
    assert.equal(lockspaces.count, 0);
    assert.equal(lockspaces.budget.used, 0);
    // A held resource is busy, whatever the cost.
    lockspaces.acquire(files, at('b'), modeOf(AUTOCREATE), { owner: owner(2), since: 0, client: 1 });
    assert.throws(() => acquire('b', huge), /is locked/);
  });

  it('take off what ends, however it ends', () => {
    const end: HoldEnd = { id: 1, isAwaited: false, isGone: false, wait: () => () => undefined };
    const hold = acquire('a', owner(1));
    acquire('a', owner(1));
    acquire('a', owner(2), 2);
    acquire('b', owner(1), 3);
    hold.end = end;
    const resource = files.resources.get(at('a'));
    assert.ok(resource !== undefined);
    lockspaces.releaseEnded(resource, end);
    lockspaces.release(files, at('b'), 1);
    assert.equal(lockspaces.budget.used, 2 * holdCost('', at('a'), 'guest1'));
    lockspaces.endResource(resource);
    assert.equal(lockspaces.budget.used, 0);
    // Neither an owner's nor a connection's account keeps a part of it.
    for (let round = 0; round < 50; round++) {
      acquire('a', owner(1));
      lockspaces.release(files, at('a'), 1);
    }
  });

  it('count what is restored, without refusing it', () => {
    acquire('a', owner(1));
    const known = files.resources.get(at('a'));
    assert.ok(known !== undefined);
    const holds = Array.from({ length: 40 }, (_, pid) => ({ owner: owner(pid), since: 0, client: 9 }));
    lockspaces.restoreResource(files, at('b'), at('b'), known.mode, restoreReference(known.file, true), holds);
    assert.ok(lockspaces.budget.used > LIMITS.total);
    assert.throws(() => acquire('a', owner(99), 3), /of all owners/);
  });

  it('bound lockspaces, which never end', () => {
    const [granted, why] = untilRefused((index) => lockspaces.create(`${directory.path}${'/'.repeat(index)}`));
    assert.ok(granted > 2);
    assert.match(why, /: lockspaces may take 8000 bytes of it$/);
  });

  it('keep one identity, and so one name, for all holds of a process', () => {
    const first = acquire('a', owner(1, 500));
    assert.equal(acquire('b', owner(1, 500)).owner, first.owner);
    // A later process with the same pid, another name, or one that may still turn out to be another process.
    for (const other of [owner(1, 600), owner(1, 600, 'other'), owner(1), owner(1)]) {
      assert.equal(acquire('c', other).owner, other);
    }
  });
});
