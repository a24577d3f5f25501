import assert from 'node:assert/strict';
import { inSlices } from '../../../src/rpc/slices.ts';

describe('work in slices', () => {
  function spend(ms: number): void {
    const until = performance.now() + ms;
    while (performance.now() < until);
  }

  it('takes every item in order, with others in between', async () => {
    const taken: number[] = [];
    const seen: number[] = [];
    const look = (): void => {
      seen.push(taken.length);
      if (taken.length < 10) setImmediate(look);
    };
    setImmediate(look);
    await inSlices(
      Array.from({ length: 10 }, (_, index) => index),
      (item) => {
        taken.push(item);
        spend(6);
      },
    );
    assert.deepEqual(taken, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    // Each item is a slice of its own.
    assert.deepEqual(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  it('asks for an item only when its turn has come', async () => {
    let asked = 0;
    function* items(): Generator<number> {
      while (asked < 3) yield asked++;
    }
    await inSlices(items(), (item) => {
      assert.equal(asked, item + 1);
    });
    assert.equal(asked, 3);
  });

  it('throws what an item throws, and lets the items clear away', async () => {
    let cleared = false;
    function* items(): Generator<number> {
      try {
        yield 1;
        yield 2;
      } finally {
        cleared = true;
      }
    }
    await assert.rejects(
      inSlices(items(), () => {
        throw new Error('full');
      }),
      /full/,
    );
    assert.ok(cleared);
  });
});
