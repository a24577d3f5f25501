import assert from 'node:assert/strict';
import fc from 'fast-check';
import { posix } from '../../../src/posix/posix.ts';
import { RecordError, StateRecord, usedPlaces } from '../../../src/store/record.ts';

const boot = '00010203-0405-0607-0809-0a0b0c0d0e0f';
const half = 4096;
const slots = 16;
/** Indexes of the header's words that change. */
const END = 16;
const END_CHECK = 17;

describe('the record', () => {
  const open: StateRecord[] = [];
  afterEach(() => {
    for (const { fd } of open.splice(0)) posix.close(fd);
  });

  const make = (texts: readonly string[] = []): StateRecord => {
    const made = StateRecord.create({ half, slots, boot });
    assert(typeof made !== 'number');
    open.push(made);
    for (const text of texts) assert(made.append(text));
    return made;
  };

  /** One mapping for each record: a process may have a limited number. */
  const memories = new Map<StateRecord, ArrayBuffer>();
  const memoryOf = (record: StateRecord): ArrayBuffer => {
    const memory = memories.get(record) ?? posix.mapMemory(record.fd);
    assert(typeof memory !== 'number');
    memories.set(record, memory);
    return memory;
  };
  const read = (record: StateRecord): string[] => [...StateRecord.open(record.fd, boot, memoryOf(record)).entries()];
  /** The entries that a reader finds; undefined when it rejects the record. */
  const found = (record: StateRecord): string[] | undefined => {
    try {
      return read(record);
    } catch (error) {
      assert(error instanceof RecordError, String(error));
      return undefined;
    }
  };

  it('has its entries in every mapping of the memory', () => {
    const texts = ['one', 'zwei', '\xe9\0\xff', 'x'.repeat(1000)];
    assert.deepEqual(read(make(texts)), texts);
  });

  it('refuses an entry without room for it, and stays unchanged', () => {
    const record = make();
    let count = 0;
    while (record.append('y'.repeat(100))) count++;
    assert.equal(count, Math.floor(half / 108));
    assert.equal(read(record).length, count);
    assert(record.append('small'));
    assert(!record.append('z'.repeat(half)));
    assert.equal(read(record).length, count + 1);
  });

  it('writes other entries to its other half', () => {
    const record = make(['old', 'older']);
    for (let turn = 0; turn < 5; turn++) {
      assert(record.rewrite([`new ${turn}`]));
      assert(record.append('more'));
      assert.deepEqual(read(record), [`new ${turn}`, 'more']);
    }
    assert(!record.rewrite(['q'.repeat(3000), 'q'.repeat(3000)]));
    assert.deepEqual(read(record), ['new 4', 'more']);
  });

  it('is in the old state or the new one, at whatever instruction its writer dies', () => {
    const record = make(['a', 'b']);
    const memory = memoryOf(record);
    const words = new Uint32Array(memory);
    const states = (change: () => void): (string[] | undefined)[] => {
      const before = Buffer.from(memory.slice(0));
      change();
      const after = Buffer.from(memory.slice(0));
      const [end = 0, check = 0] = words.subarray(END, END_CHECK + 1);
      const results: (string[] | undefined)[] = [];
      const at = (bytes: Buffer, committed: readonly number[]): void => {
        Buffer.from(memory).set(bytes);
        words.set(committed, END);
        results.push(found(record));
      };
      const old = [before.readUInt32LE(4 * END), before.readUInt32LE(4 * END_CHECK)];
      // First each byte of the change but the two words, one after the other; then the first word; then both.
      for (let byte = 0; byte < after.length; byte++) {
        if (after[byte] !== before[byte]) at(Buffer.concat([after.subarray(0, byte), before.subarray(byte)]), old);
      }
      at(after, old);
      at(after, [end, old[1] ?? 0]);
      at(after, [end, check]);
      return results;
    };
    const appended = states(() => {
      assert(record.append('c'.repeat(70)));
    });
    assert(appended.length > 70);
    assert.deepEqual(appended.slice(0, -2), Array(appended.length - 2).fill(['a', 'b']));
    assert.deepEqual(appended.slice(-2), Array(2).fill(['a', 'b', 'c'.repeat(70)]));
  });

  it('is rejected when a bit of it is wrong, unless the bit changes none of its entries', () => {
    const texts = ['one', 'two', 'a longer entry, of which every bit counts'];
    const record = make(['of long ago', 'and more of it', 'and still more']);
    assert(record.rewrite(texts));
    const bytes = Buffer.from(memoryOf(record));
    const tables = 4 * slots * 4;
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const byte = bit >> 3;
      bytes[byte] = (bytes[byte] ?? 0) ^ (1 << (bit & 7));
      const result = found(record);
      if (result !== undefined) assert.deepEqual(result, texts, `bit ${bit}`);
      bytes[byte] = (bytes[byte] ?? 0) ^ (1 << (bit & 7));
    }
    assert.equal(tables, 256);
    assert.deepEqual(found(record), texts);
  });

  it('is rejected when it is cut, with a RecordError alone', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 80 }), { maxLength: 20 }),
        fc.nat(half),
        (texts, from) => {
          const record = make();
          assert(record.rewrite(texts));
          const { length } = record;
          const second = 256 + 4 * slots * 4 + half;
          Buffer.from(memoryOf(record)).fill(0, second + from, second + half);
          const result = found(record);
          if (from >= length) assert.deepEqual(result, texts);
          else assert(result === undefined || result.join('\n') === texts.join('\n'));
        },
      ),
      { numRuns: 200 },
    );
  });

  it("is not rejected when this boot's id cannot be read", () => {
    assert.deepEqual([...StateRecord.open(make(['one']).fd, '').entries()], ['one']);
  });

  it('is rejected when it is from another boot, invalidated, or something else', () => {
    const record = make(['one']);
    assert.throws(() => StateRecord.open(record.fd, boot.replace('0', '1')), /from another boot/);
    record.invalidate();
    assert.throws(() => StateRecord.open(record.fd, boot), /was invalidated/);
    assert.throws(() => StateRecord.open(0, boot), /not sealed memory/);
    const other = posix.createMemory(100_000);
    assert.throws(() => StateRecord.open(other, boot), /was invalidated|no magic number/);
    posix.close(other);
  });

  it('replaces its bank in one step', () => {
    const record = make();
    const { bank } = record;
    bank.marks[3] = 7;
    bank.names[3] = 8;
    record.replaceBank((next) => {
      next.names[5] = bank.names[3] ?? 0;
      assert.equal(StateRecord.open(record.fd, boot).bank.names[3], 8);
    });
    const after = StateRecord.open(record.fd, boot).bank;
    assert.deepEqual([...after.names].filter(Boolean), [8]);
    assert.deepEqual([...after.marks].filter(Boolean), []);
  });

  it('finds the used places of a bank, whatever its size', () => {
    const words = fc.array(fc.tuple(fc.nat({ max: 4999 }), fc.integer({ min: 1, max: 0xffff_ffff })));
    fc.assert(
      fc.property(fc.nat({ max: 5000 }), words, (size, used) => {
        const table = new Uint32Array(size);
        for (const [at, word] of used) if (at < size) table[at] = word;
        const expected = Array.from(table.keys()).filter((at) => table[at] !== 0);
        assert.deepEqual([...usedPlaces(table)], expected);
      }),
    );
  });

  it('has memory that cannot shrink', () => {
    assert.equal(posix.mapMemory(2), -22);
  });
});
