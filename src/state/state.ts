/**
 * What outlives a restart, described once. Each room describes its own part of the state document; from that one literal come
 * the TypeScript type ({@link StateOf}), the reader, the writer, and the descriptors that must outlive exec with it: every value of
 * the kind {@link descriptor} in what is written. So none can be named in the document and forgotten at exec.
 *
 * Keys are written in the order in which they are described: the C daemon reads them, and the scanner of src/posix/scan.c
 * counts on it.
 */
import type { ByteString } from '../../xdr/codec.ts';

/** The document is not one; `message` names the place. */
export class DocumentError extends Error {}

/** What a description looks like from outside, without its types. */
export type Shape =
  | { readonly kind: 'integer' | 'descriptor'; readonly min: number; readonly max: number }
  | { readonly kind: 'boolean' | 'text' | 'uuid' | 'nothing' }
  | { readonly kind: 'word'; readonly of: readonly string[] }
  | { readonly kind: 'list' | 'map'; readonly of: Shape }
  | {
      readonly kind: 'object';
      readonly fields: readonly { readonly key: string; readonly of: Shape; readonly isOptional: boolean }[];
    };

/** A described value. */
export interface Kind<T> {
  readonly shape: Shape;
  /** @throws DocumentError */
  read(this: void, value: unknown): T;
  /** As JSON. */
  format(this: void, value: T): string;
  /** Adds the descriptors in the value. Undefined where there are none in any. */
  collect?(this: void, value: T, descriptors: Set<number>): void;
}

/** A key that may be absent. */
interface Optional<T> {
  readonly optional: Kind<T>;
}

/** A key that stands for a certain value when it is absent. */
interface Defaulted<T> {
  readonly defaulted: Kind<T>;
  /** That value, by the keys before it. */
  fallback(before: Json): T;
  /** The value with which it is left out; undefined: it is always written. */
  readonly omitted: T | undefined;
}

export type Fields = Readonly<Record<string, Kind<unknown> | Optional<unknown> | Defaulted<unknown>>>;

type ValueOf<F> =
  F extends Kind<infer T> ? T : F extends Defaulted<infer T> ? T : F extends Optional<infer T> ? T : never;
type OptionalKey<F extends Fields> = { [K in keyof F]: F[K] extends Optional<unknown> ? K : never }[keyof F];

/** The values of an object with these fields. */
export type ObjectOf<F extends Fields> = {
  readonly [K in Exclude<keyof F, OptionalKey<F>>]: ValueOf<F[K]>;
} & {
  readonly [K in OptionalKey<F>]?: ValueOf<F[K]> | undefined;
};

/** The TypeScript type of the values that a description describes. */
export type StateOf<K> = K extends Kind<infer T> ? T : never;

/** A state as its owner writes it: what is absent is said to be, so that a new key cannot be forgotten. */
export type Whole<T> = { readonly [K in keyof Required<T>]: T[K] };

/** Where in the document the reader is; spelled out only when something is wrong. */
const trail: (string | number)[] = [];

/** @throws DocumentError with the place */
export function fail(problem: string): never {
  const place = trail.map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`)).join('');
  throw new DocumentError(`${place === '' ? 'document' : place.replace(/^\./, '')}: ${problem}`);
}

/** Begins to read at the top of a document: an error before this has left its place behind. */
export function beginReading(): void {
  trail.length = 0;
}

/** Reads what is at a key of the place where the reader is. */
export function readAt<T>(key: string | number, value: unknown, read: (value: unknown) => T): T {
  trail.push(key);
  const result = read(value);
  trail.pop();
  return result;
}

/** As {@link readAt}, of a key that must not be missing. */
export function readField<T>(from: Json, key: string, read: (value: unknown) => T): T {
  const value = from[key];
  return readAt(key, value, value === undefined ? missing : read);
}

function missing(): never {
  return fail('missing');
}

/** An object of JSON.parse. */
export type Json = Record<string, unknown>;

export function readObject(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail('expected an object');
  return value as Json;
}

export function readList<T>(value: unknown, read: (value: unknown) => T): T[] {
  if (!Array.isArray(value)) fail('expected an array');
  const items: T[] = [];
  for (let i = 0; i < value.length; i++) items.push(readAt(i, value[i], read));
  return items;
}

function readInteger(value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value)) fail('expected an integer');
  // Plus 0, which makes one of -0, as a C daemon reads it.
  return value >= min && value <= max ? value + 0 : fail(`${value} is not between ${min} and ${max}`);
}

export function integer(min: number, max: number): Kind<number> {
  return { shape: { kind: 'integer', min, max }, read: (value) => readInteger(value, min, max), format: String };
}

const U32_MAX = 0xffffffff;
const I32_MAX = 0x7fffffff;

export const u32 = integer(0, U32_MAX);
export const i32 = integer(-0x80000000, I32_MAX);
export const whole = integer(0, Number.MAX_SAFE_INTEGER);
/** When a process started, in clock ticks since boot; -1 where there was none. */
export const startTime = integer(-1, Number.MAX_SAFE_INTEGER);
/** C writes -1 as an unsigned number; readers take both. */
export const u32OrMinusOne: Kind<number> = { ...u32, read: (value) => (value === -1 ? U32_MAX : u32.read(value)) };

function descriptorFrom(min: number): Kind<number> {
  return {
    ...integer(min, I32_MAX),
    shape: { kind: 'descriptor', min, max: I32_MAX },
    collect: (fd, descriptors) => {
      if (fd >= 0) descriptors.add(fd);
    },
  };
}

/** A descriptor, which outlives exec. */
export const descriptor = descriptorFrom(0);
/** As {@link descriptor}; -1 stands for none. C 7.0.0 closes its sockets before it writes them down; files may be lost. */
export const maybeDescriptor = descriptorFrom(-1);

export const boolean: Kind<boolean> = {
  shape: { kind: 'boolean' },
  read: (value) => (typeof value === 'boolean' ? value : fail('expected true or false')),
  format: String,
};

export const text: Kind<ByteString> = {
  shape: { kind: 'text' },
  read: (value) => (typeof value === 'string' ? value : fail('expected a string')),
  format: JSON.stringify,
};

/** One of these words. */
export function word<W extends string>(...words: readonly W[]): Kind<W> {
  return {
    shape: { kind: 'word', of: words },
    read: (value) => words.find((one) => one === value) ?? fail(`expected one of ${words.join(', ')}`),
    format: JSON.stringify,
  };
}

/** Bytes in base64. */
export const base64: Kind<string> = text;

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** 32 hexadecimal digits in groups of 8-4-4-4-12. Also read without its dashes, and in capitals. */
export const uuid: Kind<string> = {
  shape: { kind: 'uuid' },
  read: (value) => {
    // As every writer writes it. There are thousands, and clients wait.
    if (typeof value === 'string' && UUID.test(value)) return value;
    const digits = text.read(value).replace(/-/g, '').toLowerCase();
    if (!/^[0-9a-f]{32}$/.test(digits)) fail('expected a UUID');
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  },
  format: JSON.stringify,
};

/** An object of which nothing counts. */
export const nothing: Kind<null> = { shape: { kind: 'nothing' }, read: () => null, format: () => '{}' };

export function list<T>(of: Kind<T>): Kind<readonly T[]> {
  return {
    shape: { kind: 'list', of: of.shape },
    read: (value) => readList(value, of.read),
    format: (items) => `[${items.map(of.format).join()}]`,
    ...collecting(of.collect, (collect) => (items: readonly T[], descriptors) => {
      for (const item of items) collect(item, descriptors);
    }),
  };
}

/** Values by any name. */
export function map<T>(of: Kind<T>): Kind<Readonly<Record<string, T>>> {
  return {
    shape: { kind: 'map', of: of.shape },
    read: (value) =>
      Object.fromEntries(Object.entries(readObject(value)).map(([key, item]) => [key, readAt(key, item, of.read)])),
    format: (items) =>
      `{${Object.entries(items)
        .map(([key, item]) => `${JSON.stringify(key)}:${of.format(item)}`)
        .join()}}`,
    ...collecting(of.collect, (collect) => (items: Readonly<Record<string, T>>, descriptors) => {
      for (const item of Object.values(items)) collect(item, descriptors);
    }),
  };
}

export function optional<T>(of: Kind<T>): Optional<T> {
  return { optional: of };
}

/** A key that older writers leave out, and then mean what `fallback` says by the keys before it. */
export function defaulted<T>(of: Kind<T>, fallback: (before: Json) => T): Defaulted<T> {
  return { defaulted: of, fallback, omitted: undefined };
}

/** A key that is left out where it has this value. */
export function sparse<T>(of: Kind<T>, omitted: T): Defaulted<T> {
  return { defaulted: of, fallback: () => omitted, omitted };
}

interface Field {
  readonly key: string;
  readonly of: Kind<unknown>;
  readonly isOptional: boolean;
  /** What an absent key is read as; undefined is left out. */
  absent(from: Json): unknown;
  /** The value with which the key is left out. */
  readonly omitted: unknown;
  /** `"key":`, with a comma where it is not the first. */
  readonly before: string;
}

function fieldOf(key: string, field: Fields[string], index: number): Field {
  const common = {
    key,
    isOptional: false,
    omitted: undefined,
    before: `${index === 0 ? '' : ','}${JSON.stringify(key)}:`,
  };
  if ('optional' in field) return { ...common, of: field.optional, isOptional: true, absent: () => undefined };
  if ('defaulted' in field) {
    return { ...common, of: field.defaulted, absent: (before) => field.fallback(before), omitted: field.omitted };
  }
  return { ...common, of: field, absent: () => readAt(key, undefined, missing) };
}

/**
 * An object with these keys, the first of which is never left out. Others are ignored.
 *
 * @param complain says what is wrong with an object whose values do not fit together
 */
export function object<F extends Fields>(
  described: F,
  complain?: (value: ObjectOf<F>) => string | undefined,
): Kind<ObjectOf<F>> {
  const fields = Object.entries(described).map(([key, field], index) => fieldOf(key, field, index));
  const collectors = fields.filter(({ of }) => of.collect !== undefined);
  return {
    // When somebody asks: a start does not.
    get shape() {
      return {
        kind: 'object' as const,
        fields: fields.map(({ key, of, isOptional }) => ({ key, of: of.shape, isOptional })),
      };
    },
    read: (value) => {
      const from = readObject(value);
      const result: Json = {};
      for (const field of fields) {
        const { key } = field;
        const given = from[key];
        const item = given === undefined ? field.absent(result) : readAt(key, given, field.of.read);
        if (item !== undefined) result[key] = item;
      }
      const state = result as ObjectOf<F>;
      const complaint = complain?.(state);
      return complaint === undefined ? state : fail(complaint);
    },
    format: (value) => {
      let text = '{';
      for (const { key, of, omitted, before } of fields) {
        const item = (value as Json)[key];
        if (item !== undefined && item !== omitted) text += before + of.format(item);
      }
      return `${text}}`;
    },
    ...collecting(collectors[0], () => (value: ObjectOf<F>, descriptors) => {
      for (const { key, of } of collectors) {
        const item = (value as Json)[key];
        if (item !== undefined) of.collect?.(item, descriptors);
      }
    }),
  };
}

type Collect<T> = (value: T, descriptors: Set<number>) => void;

/** With a collector where there is something to collect with. */
function collecting<A, T>(inner: A | undefined, make: (inner: A) => Collect<T>): { readonly collect?: Collect<T> } {
  return inner === undefined ? {} : { collect: make(inner) };
}

/** Writes a value as JSON. Its descriptors join those that are to outlive exec. */
export function write<T>(kind: Kind<T>, value: T, descriptors: Set<number>): string {
  kind.collect?.(value, descriptors);
  return kind.format(value);
}

/** Every descriptor in a value. */
export function descriptorsIn<T>(kind: Kind<T>, value: T): ReadonlySet<number> {
  const descriptors = new Set<number>();
  kind.collect?.(value, descriptors);
  return descriptors;
}

/**
 * A value of JSON with other descriptors. Where a descriptor is replaced by undefined, its key is left out; where it must not be absent,
 * reading the value fails.
 */
export function replaceDescriptors(shape: Shape, value: unknown, replace: (fd: number) => number | undefined): unknown {
  switch (shape.kind) {
    case 'descriptor':
      return typeof value === 'number' ? replace(value) : value;
    case 'list':
      return Array.isArray(value)
        ? value.map((item) => replaceDescriptors(shape.of, item, replace)).filter((item) => item !== undefined)
        : value;
    case 'map':
      return mapValues(value, (_, item) => replaceDescriptors(shape.of, item, replace));
    case 'object': {
      const fields = new Map(shape.fields.map(({ key, of }) => [key, of]));
      return mapValues(value, (key, item) => {
        const of = fields.get(key);
        return of === undefined ? item : replaceDescriptors(of, item, replace);
      });
    }
    default:
      return value;
  }
}

function mapValues(value: unknown, change: (key: string, item: unknown) => unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, item]) => [key, change(key, item)] as const)
      .filter(([, item]) => item !== undefined),
  );
}
