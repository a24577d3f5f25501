import assert from 'node:assert/strict';
import type { Request } from '../../../src/storage/messages.ts';
import { Operation } from '../../../src/storage/messages.ts';
import { Thaws } from '../../../src/storage/thaw.ts';

describe('the trust in a local file system', () => {
  let time: number;
  let trials: { readonly request: Request; readonly done: () => void }[];
  let thaws: Thaws;
  let helper: NonNullable<Parameters<Thaws['tried']>[2]> & { isDead: boolean };

  beforeEach(() => {
    time = 100;
    trials = [];
    helper = {
      place: { key: 'fs 8:1', name: '/' },
      isDead: false,
      isUp: true,
      awaitStart: () => () => undefined,
      call: (request: Request, _pid: number, done: () => void): void => {
        trials.push({ request, done });
      },
    };
    thaws = new Thaws(
      { freezableAt: (path) => (path.startsWith('/run') ? null : helper.place), helperAt: () => helper },
      () => time,
    );
  });

  const trusts = (after: number): boolean => {
    time += after;
    return thaws.isTrusted('/leases', 'a');
  };

  it('is in nobody at first, and for a moment in a directory that was tried', () => {
    assert.ok(!trusts(0));
    thaws.tried('/leases', 'b', helper);
    assert.ok(trusts(4.9));
    assert.ok(!thaws.isTrusted('/leases', 'sub/a'));
    assert.ok(thaws.isTrusted('', '/leases/c'));
    assert.deepEqual(trials, []);
    assert.ok(!trusts(5.1));
  });

  it('is renewed while calls come, by one trial at a time', () => {
    thaws.tried('/leases', 'b', helper);
    for (let turn = 0; turn < 3; turn++) {
      assert.ok(trusts(7) && trusts(0.1));
      assert.deepEqual(trials[turn]?.request, { operation: Operation.TRY_WRITE, path: '/leases/a' });
      assert.equal(trials.length, turn + 1);
      trials[turn]?.done();
    }
    assert.ok(!trusts(10));
  });

  it('ends when the next trial takes long', () => {
    thaws.tried('/leases', 'b', helper);
    assert.ok(trusts(7) && trusts(49.9));
    assert.ok(!trusts(0.2));
    trials[0]?.done();
    assert.ok(trusts(0));
  });

  it('ends with the helper that tried, and when mounts change', () => {
    thaws.tried('/leases', 'b', helper);
    helper.isDead = true;
    assert.ok(!trusts(0));
    helper.isDead = false;
    assert.ok(trusts(0));
    thaws.forget();
    assert.ok(!trusts(0));
  });

  it('needs no trial where nothing is ever frozen', () => {
    assert.equal(thaws.trierFor('/run/a'), null);
    thaws.tried('/run', 'a', null);
    time += 6;
    assert.ok(thaws.isTrusted('/run', 'a'));
    assert.deepEqual(trials, []);
  });
});
