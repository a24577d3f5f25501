import assert from 'node:assert/strict';
import { Pages, type Step } from '../../../src/inquire/pages.ts';
import type { Connection } from '../../../src/rpc/connection.ts';

// Pages only use a connection as a key.
const connection = (): Connection => Object.create(null) as Connection;

function* steps(table: Iterable<number | null>): Generator<Step<number>> {
  for (const entry of table) yield entry === null ? null : { entry, size: 8 };
}

describe('pages', () => {
  it('are cut by the limit, and end with 0', () => {
    const pages = new Pages(() => 0);
    const me = connection();
    const begin = (): Generator<Step<number>> => steps([1, 2, 3, 4, 5]);
    const one = pages.page(me, 'list', 0n, 2, begin);
    assert.deepEqual(one.entries, [1, 2]);
    const two = pages.page(me, 'list', one.next, 2, begin);
    assert.deepEqual(two.entries, [3, 4]);
    assert.deepEqual(pages.page(me, 'list', two.next, 2, begin), { entries: [5], next: 0n });
    assert.equal(pages.count, 0);
  });

  it('are cut by time, also where nothing is found', () => {
    let now = 0;
    const pages = new Pages(() => now++);
    const me = connection();
    let { entries, next } = pages.page<number>(me, 'list', 0n, 0, () => steps([...Array<null>(1000).fill(null), 7]));
    let count = 1;
    while (next !== 0n) {
      assert.deepEqual(entries, []);
      ({ entries, next } = pages.page<number>(me, 'list', next, 0, () => assert.fail('begun again')));
      count++;
    }
    assert.deepEqual(entries, [7]);
    assert.ok(count > 3);
  });

  it('meet an entry that stays exactly once while the table changes', () => {
    const pages = new Pages(() => 0);
    const me = connection();
    const table = new Map(Array.from({ length: 1000 }, (_, index) => [index, index]));
    const seen: number[] = [];
    let cursor = 0n;
    let round = 0;
    do {
      const { entries, next } = pages.page(me, 'list', cursor, 50, () => steps(table.values()));
      seen.push(...entries);
      cursor = next;
      // Every odd entry goes, among them ones already listed, and others come.
      for (let gone = round * 100 + 1; gone < round * 100 + 100; gone += 2) table.delete(gone);
      table.set(10_000 + round, 10_000 + round);
      round++;
    } while (cursor !== 0n && round < 100);
    assert.equal(new Set(seen).size, seen.length);
    for (let entry = 0; entry < 1000; entry += 2) assert.ok(seen.includes(entry), String(entry));
  });

  it('belong to their connection and kind, and are used once', () => {
    const pages = new Pages(() => 0);
    const me = connection();
    const begin = (): Generator<Step<number>> => steps([1, 2, 3]);
    const { next } = pages.page(me, 'list', 0n, 1, begin);
    assert.throws(() => pages.page(connection(), 'list', next, 1, begin), /not known/);
    assert.throws(() => pages.page(me, 'other', next, 1, begin), /not known/);
    pages.page(me, 'list', next, 1, begin);
    assert.throws(() => pages.page(me, 'list', next, 1, begin), /not known/);
  });

  it('are forgotten when too many, when nobody asks on, and with their connection', () => {
    let now = 0;
    const pages = new Pages(() => now);
    const me = connection();
    const begin = (): Generator<Step<number>> => steps([1, 2, 3]);
    for (let count = 0; count < 10; count++) pages.page(me, 'list', 0n, 1, begin);
    assert.equal(pages.count, 4);
    now = 60_000;
    pages.sweep();
    assert.equal(pages.count, 0);
    pages.page(me, 'list', 0n, 1, begin);
    pages.forget(me);
    assert.equal(pages.count, 0);
    pages.sweep();
  });
});
