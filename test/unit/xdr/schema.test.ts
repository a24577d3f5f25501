import assert from 'node:assert/strict';
import fc from 'fast-check';
import { XdrError, XdrReader, XdrWriter } from '../../../xdr/codec.ts';
import { remoteError } from '../../../xdr/error.ts';
import type { Procedure } from '../../../xdr/program.ts';
import { lockProcedures } from '../../../xdr/programs/lock.ts';
import {
  bool,
  double,
  i32,
  i64,
  list,
  nothing,
  opaque,
  optional,
  string,
  struct,
  u32,
  u64,
  union,
  type Xdr,
} from '../../../xdr/schema.ts';
import { arbitrary, reference } from '../support/reference.ts';

function encode<T>(type: Xdr<T>, value: T): Buffer {
  const writer = new XdrWriter(1);
  type.write(writer, value);
  return Buffer.from(writer.bytes());
}

/** One of everything, nested. */
const everything = struct('everything', {
  number: u32,
  signed: i32,
  large: u64,
  largeSigned: i64,
  real: double,
  truth: bool,
  bytes: opaque(5),
  text: string(40),
  maybe: optional(struct('inner', { a: string(9), b: optional(i32) })),
  many: list(union('arm', { 1: { name: 'one', of: u32 }, 7: { name: 'seven', of: list(string(3), 4) } }), 5),
});

const described: [string, Xdr<unknown>][] = [
  ['a struct of everything', everything],
  ...Object.entries(lockProcedures as Record<string, Procedure<unknown, unknown>>).map(
    ([name, { args }]): [string, Xdr<unknown>] => [`arguments of ${name}`, args],
  ),
];

describe('descriptions', () => {
  for (const [name, type] of described) {
    it(`${name}: written as a second codec writes it, and read back`, () => {
      fc.assert(
        fc.property(arbitrary(type.shape), (value) => {
          const bytes = encode(type, value);
          assert.deepEqual(bytes, reference(type.shape, value).toXDR());
          assert.ok(bytes.length >= type.minSize);
          const reader = new XdrReader(bytes);
          assert.deepEqual(type.read(reader), value);
          assert.equal(reader.remaining, 0);
        }),
      );
    });

    it(`${name}: refused when cut short anywhere`, () => {
      fc.assert(
        fc.property(arbitrary(type.shape), fc.nat(), (value, cut) => {
          const bytes = encode(type, value);
          const end = cut % bytes.length;
          assert.throws(() => type.read(new XdrReader(bytes, 0, end)), XdrError);
        }),
      );
    });

    it(`${name}: any bytes are read or refused, and what was read is written and read the same`, () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
          let value: unknown;
          try {
            value = type.read(new XdrReader(Buffer.from(bytes)));
          } catch (error) {
            assert.ok(error instanceof XdrError);
            return;
          }
          assert.deepEqual(type.read(new XdrReader(encode(type, value))), value);
        }),
      );
    });
  }

  it('refuse to write what they do not describe', () => {
    const writer = new XdrWriter();
    assert.throws(() => {
      string(3).write(writer, 'four');
    }, XdrError);
    assert.throws(() => {
      opaque(16).write(writer, Buffer.alloc(15));
    }, XdrError);
    assert.throws(() => {
      list(u32, 1).write(writer, [1, 2]);
    }, XdrError);
  });

  it('take any word but 0 for true, and so for the presence of an optional', () => {
    assert.equal(bool.read(new XdrReader(Buffer.from([0, 0, 0, 2]))), true);
    assert.equal(optional(nothing).read(new XdrReader(Buffer.from([0, 0, 1, 0]))), undefined);
    assert.equal(optional(nothing).read(new XdrReader(Buffer.from([0, 0, 0, 0]))), null);
  });

  it('refuse an unknown arm of a union', () => {
    const type = union('some', { 1: { name: 'one', of: u32 } });
    assert.throws(() => type.read(new XdrReader(Buffer.from([0, 0, 0, 2, 0, 0, 0, 0]))), XdrError);
  });

  it('bound a list by the bytes there are, so that a lying count costs nothing', () => {
    const type = list(everything, 0xffffffff);
    assert.throws(() => type.read(new XdrReader(Buffer.from([0xff, 0xff, 0xff, 0xff]))), XdrError);
    // Items that take no bytes are bounded by the limit alone.
    assert.throws(() => list(nothing, 1000).read(new XdrReader(Buffer.from([0xff, 0xff, 0xff, 0xff]))), XdrError);
  });

  it('agree on errors with a second codec, and refuse an error that refers to an object', () => {
    const error = {
      code: 87,
      domain: 51,
      message: 'resource busy: x',
      level: 2,
      dom: null,
      str1: 'a',
      str2: null,
      str3: '',
      int1: -1,
      int2: 5,
      net: null,
    };
    const bytes = encode(remoteError, error);
    assert.deepEqual(bytes, reference(remoteError.shape, error).toXDR());
    assert.deepEqual(remoteError.read(new XdrReader(bytes)), error);
    bytes[bytes.length - 1] = 1;
    assert.throws(() => remoteError.read(new XdrReader(bytes)), XdrError);
  });
});
