import assert from 'node:assert/strict';
import fc from 'fast-check';
import { NumberTable, type Table, TextTable } from '../../../src/lockspace/table.ts';

interface Counted {
  readonly number: number;
}

const numbers = (values: Iterable<Counted>): number[] => [...values].map(({ number }) => number).sort((a, b) => a - b);

/** Does the same to a table and to a Map: both must be equal at every step, and iterate alike at the end. */
function compare<K>(table: Table<K, Counted>, keys: readonly K[]): void {
  const map = new Map<K, Counted>();
  const step = fc.record({ key: fc.constantFrom(...keys), what: fc.constantFrom('set', 'set', 'delete', 'get') });
  let number = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 50, maxLength: 600 }), (steps) => {
      for (const { key, what } of steps) {
        if (what === 'set') {
          const value = { number: number++ };
          map.set(key, value);
          table.set(key, value);
        } else if (what === 'delete') assert.equal(table.delete(key), map.delete(key));
        assert.equal(table.get(key), map.get(key));
        assert.equal(table.has(key), map.has(key));
        assert.equal(table.size, map.size);
      }
      assert.deepEqual(numbers(table.values()), numbers(map.values()));
      for (const key of keys) assert.equal(table.get(key), map.get(key));
    }),
    { numRuns: 100 },
  );
}

describe('a table', () => {
  it('has what a Map has, by strings of every length and content', () => {
    const texts = fc.sample(fc.string({ unit: 'binary', maxLength: 40 }), 200);
    compare(new TextTable<Counted>(), [...new Set(['', ...texts, ...texts.map((text) => `${text}\0`)])]);
  });

  it('has what a Map has, by whole numbers however large', () => {
    const some = [0, 1, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1, 2n ** 63n, 2n ** 64n - 1n, 2n ** 32n + 2n ** 63n];
    compare(new NumberTable<Counted>(), [...some, ...Array.from({ length: 200 }, (_, index) => index * 1024)]);
  });

  it('grows and shrinks with what it holds, and forgets nothing', () => {
    const table = new TextTable<Counted>();
    const name = (number: number): string => `/var/lib/libvirt/images/disk${number}.img`;
    const count = 20_000;
    for (let number = 0; number < count; number++) table.set(name(number), { number });
    assert.equal(table.size, count);
    for (let number = 0; number < count; number++) {
      assert.equal(table.get(name(number))?.number, number);
      if (number % 1000 !== 7) assert.ok(table.delete(name(number)));
    }
    assert.equal(table.size, 20);
    assert.deepEqual(
      numbers(table.values()),
      Array.from({ length: 20 }, (_, index) => index * 1000 + 7),
    );
  });

  it('tells what stays, once, whatever comes and goes while it tells', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(400), { maxLength: 600 }), (passing) => {
        const table = new NumberTable<Counted>();
        // Among entries that come and go, so that places on both sides are used again.
        for (let key = 0; key <= 400; key++) table.set(key, { number: key });
        const staying = [...table.values()].filter(({ number }) => number % 50 === 0);
        const told: Counted[] = [];
        const gone = new Set<Counted>();
        const present = new Map<number, Counted>(
          numbers(table.values()).map((key) => [key, table.get(key) ?? never()]),
        );
        let at = 0;
        for (const value of table.values()) {
          assert.ok(!gone.has(value), 'told after it had gone');
          told.push(value);
          for (const key of passing.slice(at, (at += 5))) {
            if (key % 50 === 0) continue;
            const old = present.get(key);
            if (old === undefined) {
              const value = { number: key };
              present.set(key, value);
              table.set(key, value);
            } else {
              gone.add(old);
              present.delete(key);
              table.delete(key);
            }
          }
          // So that the table shrinks during the iteration.
          if (at > 300) for (const [key, old] of present) if (key % 50 !== 0 && table.delete(key)) gone.add(old);
        }
        assert.equal(new Set(told).size, told.length, 'told twice');
        for (const value of staying) assert.ok(told.includes(value), `${value.number} was not told`);
      }),
      { numRuns: 100 },
    );
  });

  it('finds names that differ in a few places only, wherever those are', () => {
    const base = 'x'.repeat(70);
    for (let at = 0; at < base.length - 3; at++) {
      const name = (number: number): string => base.slice(0, at) + String(number).padStart(3, '0') + base.slice(at + 3);
      const table = new TextTable<Counted>();
      for (let number = 0; number < 500; number++) table.set(name(number), { number });
      for (let number = 0; number < 500; number++) assert.equal(table.get(name(number))?.number, number);
      for (let number = 0; number < 500; number += 2) assert.ok(table.delete(name(number)));
      for (let number = 0; number < 500; number++) assert.equal(table.has(name(number)), number % 2 === 1);
      assert.equal(table.get(base), undefined);
    }
  });
});

function never(): never {
  throw new Error('a key without a value');
}
