import assert from 'node:assert/strict';
import fc from 'fast-check';
import library from 'xdr-js-serialize';
import { padding, XdrError, XdrReader, XdrWriter } from '../../../xdr/codec.ts';

const types = library.default;
const bytes = fc.uint8Array({ maxLength: 70 }).map((value) => Buffer.from(value));

describe('the codec', () => {
  it('pads to multiples of four', () => {
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5, 65535, 65536].map((length) => padding(length)),
      [0, 3, 2, 1, 0, 3, 1, 0],
    );
  });

  it('reads and writes the limits of every number', () => {
    const writer = new XdrWriter(1);
    for (const value of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) writer.u32(value);
    for (const value of [0, -1, 0x7fffffff, -0x80000000]) writer.i32(value);
    for (const value of [0n, 2n ** 64n - 1n]) writer.u64(value);
    for (const value of [-(2n ** 63n), 2n ** 63n - 1n]) writer.i64(value);
    for (const value of [0, -0, 1.5, Infinity, Number.MAX_VALUE]) writer.double(value);
    const reader = new XdrReader(writer.bytes());
    for (const value of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) assert.equal(reader.u32(), value);
    for (const value of [0, -1, 0x7fffffff, -0x80000000]) assert.equal(reader.i32(), value);
    for (const value of [0n, 2n ** 64n - 1n]) assert.equal(reader.u64(), value);
    for (const value of [-(2n ** 63n), 2n ** 63n - 1n]) assert.equal(reader.i64(), value);
    for (const value of [0, -0, 1.5, Infinity, Number.MAX_VALUE]) assert.ok(Object.is(reader.double(), value));
    assert.equal(reader.remaining, 0);
  });

  it('writes strings as a second codec does, and reads what that writes', () => {
    fc.assert(
      fc.property(bytes, (value) => {
        const other = new types.VarOpaque(70);
        other.value = value;
        const writer = new XdrWriter(1);
        writer.string(value.toString('latin1'));
        assert.deepEqual(writer.bytes(), other.toXDR());
        const nul = value.indexOf(0);
        const upToNul = nul < 0 ? value : value.subarray(0, nul);
        assert.equal(new XdrReader(other.toXDR()).string(70), upToNul.toString('latin1'));
      }),
    );
  });

  it('writes opaque data as a second codec does, and reads what that writes', () => {
    fc.assert(
      fc.property(bytes, (value) => {
        const other = new types.FixedOpaque(value.length);
        other.value = value;
        const writer = new XdrWriter(1);
        writer.opaque(value);
        assert.deepEqual(writer.bytes(), other.toXDR());
        assert.deepEqual(new XdrReader(other.toXDR()).opaque(value.length), value);
      }),
    );
  });

  it('copies opaque data, so that the buffer may be used again', () => {
    const buffer = Buffer.from([1, 2, 3, 4]);
    const read = new XdrReader(buffer).opaque(4);
    buffer.fill(0);
    assert.deepEqual([...read], [1, 2, 3, 4]);
  });

  it('skips padding whatever it holds', () => {
    const reader = new XdrReader(Buffer.from([0, 0, 0, 1, 0x61, 0xff, 0xff, 0xff, 0, 0, 0, 9]));
    assert.equal(reader.string(1), 'a');
    assert.equal(reader.u32(), 9);
  });

  it('ends a string at its first NUL and still consumes all of it', () => {
    const reader = new XdrReader(Buffer.from([0, 0, 0, 4, 0x61, 0, 0x62, 0, 0, 0, 0, 7]));
    assert.equal(reader.string(4), 'a');
    assert.equal(reader.u32(), 7);
  });

  it('reads strings that come again, and others in between, as what they are', () => {
    const letters = fc.uint8Array({ min: 0, max: 3, maxLength: 140 });
    fc.assert(
      fc.property(fc.array(letters, { maxLength: 5 }), fc.array(fc.tuple(fc.nat(4), fc.nat(255))), (some, order) => {
        for (const [index, filler] of order) {
          const value = Buffer.from(some[index] ?? []);
          const message = Buffer.alloc(4 + value.length + padding(value.length), filler);
          message.writeUInt32BE(value.length, 0);
          value.copy(message, 4);
          const nul = value.indexOf(0);
          const upToNul = nul < 0 ? value : value.subarray(0, nul);
          assert.equal(new XdrReader(message).string(140), upToNul.toString('latin1'));
        }
      }),
    );
  });

  it('refuses to write a number that is no word', () => {
    const writer = new XdrWriter();
    for (const value of [-1, 2 ** 32, 0.5, NaN])
      assert.throws(() => {
        writer.u32(value);
      }, RangeError);
    for (const value of [-(2 ** 31) - 1, 2 ** 31, 0.5, NaN])
      assert.throws(() => {
        writer.i32(value);
      }, RangeError);
    assert.equal(writer.length, 0);
  });

  it('refuses a string over its limit before it looks for the bytes', () => {
    assert.throws(() => new XdrReader(Buffer.from([0, 0, 0, 5])).string(4), XdrError);
    assert.throws(() => new XdrReader(Buffer.from([0xff, 0xff, 0xff, 0xff])).string(0xffffffff), XdrError);
  });

  it('refuses a string without its padding', () => {
    assert.throws(() => new XdrReader(Buffer.from([0, 0, 0, 1, 0x61])).string(4), XdrError);
  });

  it('refuses a count whose items cannot be there, without allocating for them', () => {
    const reader = new XdrReader(Buffer.from([0x00, 0x0f, 0xff, 0xff, 0, 0, 0, 0]));
    assert.throws(() => reader.count(0x100000, 4), XdrError);
    assert.throws(() => new XdrReader(Buffer.from([0, 0, 0, 2])).count(1, 0), XdrError);
    assert.equal(new XdrReader(Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])).count(1, 4), 1);
  });

  it('never reads past its end, even where the buffer goes on', () => {
    const reader = new XdrReader(Buffer.alloc(16), 4, 8);
    assert.equal(reader.u32(), 0);
    assert.throws(() => reader.u32(), XdrError);
    assert.equal(reader.offset, 8);
  });

  it('throws nothing but XdrError on any bytes', () => {
    const readers: ((reader: XdrReader) => unknown)[] = [
      (reader) => reader.u32(),
      (reader) => reader.i32(),
      (reader) => reader.u64(),
      (reader) => reader.i64(),
      (reader) => reader.double(),
      (reader) => reader.opaque(5),
      (reader) => reader.string(20),
      (reader) => reader.count(20, 4),
    ];
    fc.assert(
      fc.property(bytes, fc.array(fc.constantFrom(...readers), { maxLength: 12 }), (value, steps) => {
        const reader = new XdrReader(value);
        try {
          for (const step of steps) step(reader);
        } catch (error) {
          assert.ok(error instanceof XdrError);
        }
        assert.ok(reader.offset <= value.length);
      }),
    );
  });

  it('grows from nothing and overwrites a word written before', () => {
    const writer = new XdrWriter(1);
    writer.u32(0);
    writer.string('x'.repeat(10000));
    writer.patchU32(0, writer.length);
    const reader = new XdrReader(writer.bytes());
    assert.equal(reader.u32(), 10008);
    assert.equal(reader.string(65536).length, 10000);
  });
});
