/**
 * Descriptions of XDR data with inferred types. A description encodes and decodes, and its {@link Shape} serves the documentation,
 * the trace decoder and the fuzzer's generator.
 */
import type { ByteString, XdrReader, XdrWriter } from './codec.ts';
import { XdrError } from './codec.ts';

/** A description without its types. */
export type Shape =
  | { readonly kind: 'void' | 'u32' | 'i32' | 'u64' | 'i64' | 'double' | 'bool' }
  | { readonly kind: 'opaque'; readonly length: number }
  | { readonly kind: 'string'; readonly limit: number }
  | { readonly kind: 'optional'; readonly of: Shape }
  | { readonly kind: 'list'; readonly of: Shape; readonly limit: number }
  | { readonly kind: 'struct'; readonly name: string; readonly fields: readonly (readonly [string, Shape])[] }
  | { readonly kind: 'union'; readonly name: string; readonly arms: readonly (readonly [number, string, Shape])[] };

/** The description of an XDR type. */
export interface Xdr<T> {
  readonly shape: Shape;
  /** The fewest bytes of a value: bounds a list before it is allocated. */
  readonly minSize: number;
  read(reader: XdrReader): T;
  write(writer: XdrWriter, value: T): void;
}

/** The type of the described values. */
export type ValueOf<X> = X extends Xdr<infer T> ? T : never;

export const u32: Xdr<number> = {
  shape: { kind: 'u32' },
  minSize: 4,
  read: (reader) => reader.u32(),
  write: (writer, value) => writer.u32(value),
};

export const i32: Xdr<number> = {
  shape: { kind: 'i32' },
  minSize: 4,
  read: (reader) => reader.i32(),
  write: (writer, value) => writer.i32(value),
};

export const u64: Xdr<bigint> = {
  shape: { kind: 'u64' },
  minSize: 8,
  read: (reader) => reader.u64(),
  write: (writer, value) => writer.u64(value),
};

export const i64: Xdr<bigint> = {
  shape: { kind: 'i64' },
  minSize: 8,
  read: (reader) => reader.i64(),
  write: (writer, value) => writer.i64(value),
};

/** A small u64 as a number: times, ids. Above 2^53 - 1 it is an error. */
export const u53: Xdr<number> = {
  shape: { kind: 'u64' },
  minSize: 8,
  read: (reader) => {
    const value = reader.u32() * 0x1_0000_0000 + reader.u32();
    if (value > Number.MAX_SAFE_INTEGER) throw new XdrError(`${value} at offset ${reader.offset - 8} is too large`);
    return value;
  },
  write: (writer, value) => {
    writer.u32(Math.floor(value / 0x1_0000_0000));
    writer.u32(value >>> 0);
  },
};

export const double: Xdr<number> = {
  shape: { kind: 'double' },
  minSize: 8,
  read: (reader) => reader.double(),
  write: (writer, value) => writer.double(value),
};

/** A boolean in a word. Any word but 0 is true, as in C. */
export const bool: Xdr<boolean> = {
  shape: { kind: 'bool' },
  minSize: 4,
  read: (reader) => reader.u32() !== 0,
  write: (writer, value) => writer.u32(value ? 1 : 0),
};

/** For a procedure without arguments or without a result. */
export const nothing: Xdr<undefined> = {
  shape: { kind: 'void' },
  minSize: 0,
  read: () => undefined,
  write: () => undefined,
};

/** Exactly `length` bytes. */
export function opaque(length: number): Xdr<Buffer> {
  return {
    shape: { kind: 'opaque', length },
    minSize: (length + 3) & ~3,
    read: (reader) => reader.opaque(length),
    write: (writer, value) => {
      if (value.length !== length) throw new XdrError(`${value.length} bytes for opaque[${length}]`);
      writer.opaque(value);
    },
  };
}

/** A string of at most `limit` bytes. */
export function string(limit: number): Xdr<ByteString> {
  return {
    shape: { kind: 'string', limit },
    minSize: 4,
    read: (reader) => reader.string(limit),
    write: (writer, value) => {
      if (value.length > limit) throw new XdrError(`string of ${value.length} bytes, limit ${limit}`);
      writer.string(value);
    },
  };
}

/** A value that may be absent: a word 0, or a word 1 (as in C, any other) and the value. */
export function optional<T>(of: Xdr<T>): Xdr<T | null> {
  return {
    shape: { kind: 'optional', of: of.shape },
    minSize: 4,
    read: (reader) => (bool.read(reader) ? of.read(reader) : null),
    write: (writer, value) => {
      writer.u32(value === null ? 0 : 1);
      if (value !== null) of.write(writer, value);
    },
  };
}

/** A counted list of at most `limit` values. */
export function list<T>(of: Xdr<T>, limit: number): Xdr<T[]> {
  return {
    shape: { kind: 'list', of: of.shape, limit },
    minSize: 4,
    read: (reader) => {
      const items: T[] = [];
      for (let left = reader.count(limit, of.minSize); left > 0; left--) items.push(of.read(reader));
      return items;
    },
    write: (writer, value) => {
      if (value.length > limit) throw new XdrError(`list of ${value.length} items, limit ${limit}`);
      writer.u32(value.length);
      for (const item of value) of.write(writer, item);
    },
  };
}

/** A struct, its fields in the given order. */
export function struct<F extends object>(name: string, fields: { [K in keyof F]: Xdr<F[K]> }): Xdr<F> {
  const names = Object.keys(fields) as (keyof F & string)[];
  let readStruct: ((reader: XdrReader) => unknown) | undefined;
  return {
    shape: { kind: 'struct', name, fields: names.map((key) => [key, fields[key].shape] as const) },
    minSize: names.reduce((sum, key) => sum + fields[key].minSize, 0),
    read: (reader) => (readStruct ??= structReader(names, fields))(reader) as F,
    write: (writer, value) => {
      for (const key of names) fields[key].write(writer, value[key]);
    },
  };
}

/**
 * Generates a function that reads the fields in an object literal: all values then have one hidden class. A loop over the names
 * takes twice the time for a REGISTER.
 */
function structReader(names: readonly string[], fields: object): (reader: XdrReader) => unknown {
  const body = names.map((name) => `${JSON.stringify(name)}: fields[${JSON.stringify(name)}].read(reader)`).join(', ');
  // All names are from our own descriptions. Called on the first read, not at every start.
  // eslint-disable-next-line @typescript-eslint/no-implied-eval, @typescript-eslint/no-unsafe-call
  return new Function('fields', `return (reader) => ({ ${body} })`)(fields) as (reader: XdrReader) => unknown;
}

/** One arm of a {@link union}. */
interface Arm<T> {
  readonly name: string;
  readonly of: Xdr<T>;
}

/** A discriminated union: an i32 selects the arm. Values are `{ type, value }`. */
export function union<A extends Record<number, unknown>>(
  name: string,
  arms: { [K in keyof A]: Arm<A[K]> },
): Xdr<{ [K in keyof A & number]: { type: K; value: A[K] } }[keyof A & number]> {
  const byType = new Map<number, Arm<unknown>>(
    Object.entries(arms).map(([type, arm]) => [Number(type), arm as Arm<unknown>]),
  );
  const arm = (type: number): Arm<unknown> => {
    const found = byType.get(type);
    if (found === undefined) throw new XdrError(`${name} has no arm ${type}`);
    return found;
  };
  return {
    shape: { kind: 'union', name, arms: [...byType].map(([type, { name, of }]) => [type, name, of.shape] as const) },
    minSize: 4 + Math.min(...[...byType.values()].map(({ of }) => of.minSize)),
    read: (reader) => {
      const type = reader.i32();
      return { type, value: arm(type).of.read(reader) };
    },
    write: (writer, { type, value }) => {
      writer.i32(type);
      arm(type).of.write(writer, value);
    },
  };
}
