/** Reads XDR data by its description into plain values, up to the first invalid byte. */
import { type ByteString, XdrError, type XdrReader } from '../../../xdr/codec.ts';
import type { Shape } from '../../../xdr/schema.ts';
import { printable } from '../../log/printable.ts';

/** A JSON value. Strings have escapes for unprintable bytes. */
export type Plain = null | boolean | number | string | Plain[] | { [name: string]: Plain };

interface Walked {
  /** The values before the first invalid byte. */
  readonly value: Plain;
  /** Where and why reading failed, if it did. */
  readonly broken: { readonly field: string; readonly offset: number; readonly reason: string } | undefined;
}

export function walk(shape: Shape, reader: XdrReader): Walked {
  let root: Plain = null;
  const where: string[] = [];
  const start = reader.offset;
  try {
    read(shape, reader, where, (value) => (root = value));
    return { value: root, broken: undefined };
  } catch (error) {
    if (!(error instanceof XdrError)) throw error;
    return { value: root, broken: { field: where.join('.'), offset: reader.offset - start, reason: error.message } };
  }
}

/** Passes a container to `put` before it is filled, so that an error keeps its values read so far. */
function read(shape: Shape, reader: XdrReader, where: string[], put: (value: Plain) => void): void {
  switch (shape.kind) {
    case 'void':
      put(null);
      break;
    case 'u32':
      put(reader.u32());
      break;
    case 'i32':
      put(reader.i32());
      break;
    case 'u64':
      put(integer(reader.u64()));
      break;
    case 'i64':
      put(integer(reader.i64()));
      break;
    case 'double':
      put(reader.double());
      break;
    case 'bool':
      put(reader.u32() !== 0);
      break;
    case 'opaque':
      put(opaque(reader.opaque(shape.length)));
      break;
    case 'string':
      put(printable(reader.string(shape.limit) satisfies ByteString));
      break;
    case 'optional':
      if (reader.u32() === 0) put(null);
      else read(shape.of, reader, where, put);
      break;
    case 'list': {
      const items: Plain[] = [];
      put(items);
      const count = reader.count(shape.limit, 0);
      for (let index = 0; index < count; index++) {
        within(where, String(index), () => read(shape.of, reader, where, (value) => (items[index] = value)));
      }
      break;
    }
    case 'struct': {
      const fields: Record<string, Plain> = {};
      put(fields);
      for (const [name, field] of shape.fields) {
        within(where, name, () => read(field, reader, where, (value) => (fields[name] = value)));
      }
      break;
    }
    case 'union': {
      const type = reader.i32();
      const arm = shape.arms.find(([number]) => number === type);
      if (arm === undefined) throw new XdrError(`${shape.name} has no arm ${type}`);
      const chosen: Record<string, Plain> = {};
      put(chosen);
      read(arm[2], reader, where, (value) => (chosen[arm[1]] = value));
      break;
    }
  }
}

/** After an exception the path still names the invalid field. */
function within(where: string[], name: string, step: () => void): void {
  where.push(name);
  step();
  where.pop();
}

function integer(value: bigint): Plain {
  return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
}

/** 16 bytes are always a UUID. */
function opaque(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return bytes.length === 16 ? hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5') : hex;
}
