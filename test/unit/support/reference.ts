/**
 * A second codec for what a description describes: built from its shape alone on xdr-js-serialize, which shares no code
 * with xdr/. And values to feed to both.
 */
import fc from 'fast-check';
import library, { type XdrType } from 'xdr-js-serialize';
import type { Shape } from '../../../xdr/schema.ts';

const types = library.default;

/** The value as the library holds it. Unions, whose library form knows names only, are a struct of type and value. */
export function reference(shape: Shape, value: unknown): XdrType {
  switch (shape.kind) {
    case 'void':
      return new types.Void();
    case 'u32':
      return new types.UInt(value as number);
    case 'i32':
      return new types.Int(value as number);
    case 'u64':
      return new types.UHyper((value as bigint).toString());
    case 'i64':
      return new types.Hyper((value as bigint).toString());
    case 'double':
      return new types.Double(value as number);
    case 'bool':
      return new types.Bool(value as boolean);
    case 'opaque': {
      const opaque = new types.FixedOpaque(shape.length);
      opaque.value = value as Buffer;
      return opaque;
    }
    case 'string': {
      // A string on the wire is an opaque of its bytes; the library's own strings are ASCII only.
      const string = new types.VarOpaque(shape.limit);
      string.value = Buffer.from(value as string, 'latin1');
      return string;
    }
    case 'optional':
      return new types.Option(new types.Void(), value === null ? null : reference(shape.of, value));
    case 'list': {
      const list = new types.VarArray(shape.limit, () => new types.Void());
      list.values = (value as unknown[]).map((item) => reference(shape.of, item));
      return list;
    }
    case 'struct': {
      const fields = value as Record<string, unknown>;
      return new types.Struct(
        shape.fields.map(([name]) => name),
        shape.fields.map(([name, field]) => reference(field, fields[name])),
      );
    }
    case 'union': {
      const { type, value: held } = value as { type: number; value: unknown };
      const arm = shape.arms.find(([number]) => number === type);
      if (arm === undefined) throw new Error(`no arm ${type}`);
      return new types.Struct(['type', 'value'], [new types.Int(type), reference(arm[2], held)]);
    }
  }
}

/** Any byte but NUL, which would end a string. */
const byte = fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code));

/** Values that the shape describes; strings and lists stay short. */
export function arbitrary(shape: Shape): fc.Arbitrary<unknown> {
  switch (shape.kind) {
    case 'void':
      return fc.constant(undefined);
    case 'u32':
      return fc.integer({ min: 0, max: 0xffffffff });
    case 'i32':
      return fc.integer({ min: -0x80000000, max: 0x7fffffff });
    case 'u64':
      return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    case 'i64':
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    case 'double':
      return fc.double({ noNaN: true });
    case 'bool':
      return fc.boolean();
    case 'opaque':
      return fc.uint8Array({ minLength: shape.length, maxLength: shape.length }).map((bytes) => Buffer.from(bytes));
    case 'string':
      return fc.string({ unit: byte, maxLength: Math.min(shape.limit, 40) });
    case 'optional':
      return fc.option(arbitrary(shape.of), { nil: null });
    case 'list':
      return fc.array(arbitrary(shape.of), { maxLength: Math.min(shape.limit, 5) });
    case 'struct':
      return fc.record(Object.fromEntries(shape.fields.map(([name, field]) => [name, arbitrary(field)] as const)), {
        noNullPrototype: true,
      });
    case 'union':
      return fc.oneof(...shape.arms.map(([type, , held]) => arbitrary(held).map((value) => ({ type, value }))));
  }
}
