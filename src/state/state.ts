/**
 * Descriptions of the state that outlives a restart. Each room describes its own part of the state document. The type
 * ({@link StateOf}), the reader and the writer come from that one literal, and so do the descriptors that must outlive exec: every
 * written value of the kind {@link descriptor}. So none can be named in the document and forgotten at exec.
 *
 * Keys are written in the order of the description. The scanner in src/posix/scan.c relies on it.
 */
import type { ByteString } from '../../xdr/codec.ts';

/** A fault in a document; `message` names the place. */
export class DocumentError extends Error {}

/** A description without its types. */
export type Shape =
  | { readonly kind: 'integer' | 'descriptor'; readonly min: number; readonly max: number }
  | { readonly kind: 'boolean' | 'text' | 'uuid' | 'nothing' }
  | { readonly kind: 'word'; readonly of: readonly string[] }
  | { readonly kind: 'list' | 'map'; readonly of: Shape }
  | {
      readonly kind: 'object';
      readonly fields: readonly { readonly key: string; readonly of: Shape; readonly isOptional: boolean }[];
    };

/** The description of a value. */
export interface Kind<T> {
  readonly shape: Shape;
  /** @throws DocumentError */
  read(this: void, value: unknown): T;
  /** As JSON. */
  format(this: void, value: T): string;
  /** Adds the descriptors in the value. Undefined for kinds without any. */
  collect?(this: void, value: T, descriptors: Set<number>): void;
}

/** A key that may be absent. */
interface Optional<T> {
  readonly optional: Kind<T>;
}

/** A key that has a default when it is absent. */
interface Defaulted<T> {
  readonly defaulted: Kind<T>;
  /** The default, from the values of earlier keys. */
  fallback(before: Json): T;
  /** The key is not written with this value; undefined: it is always written. */
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

/** The type of the described values. */
export type StateOf<K> = K extends Kind<infer T> ? T : never;

/** A state as its owner writes it: optional keys must be given, if only as undefined, so that a new key cannot be forgotten. */
export type Whole<T> = { readonly [K in keyof Required<T>]: T[K] };

/** The reader's place in the document. */
const trail: (string | number)[] = [];

/** @throws DocumentError with the place */
export function fail(problem: string): never {
  const place = trail.map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`)).join('');
  throw new DocumentError(`${place === '' ? 'document' : place.replace(/^\./, '')}: ${problem}`);
}

/** Begins at the top of a document: an earlier error has left its place behind. */
export function beginReading(): void {
  trail.length = 0;
}

/** Reads the value of a key below the reader's present place. */
export function readAt<T>(key: string | number, value: unknown, read: (value: unknown) => T): T {
  trail.push(key);
  const result = read(value);
  trail.pop();
  return result;
}

/** As {@link readAt}, for a key that must not be missing. */
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
  // Plus 0 turns -0 into 0, as a C daemon reads it.
  return value >= min && value <= max ? value + 0 : fail(`${value} is not between ${min} and ${max}`);
}

export function integer(min: number, max: number): Kind<number> {
  return { shape: { kind: 'integer', min, max }, read: (value) => readInteger(value, min, max), format: String };
}

const MAX_U32 = 0xffffffff;
const MAX_I32 = 0x7fffffff;

export const u32 = integer(0, MAX_U32);
export const i32 = integer(-0x80000000, MAX_I32);
export const whole = integer(0, Number.MAX_SAFE_INTEGER);
/** When a process started, in clock ticks since boot; -1 where there was no process. */
export const startTime = integer(-1, Number.MAX_SAFE_INTEGER);
/** C writes -1 as an unsigned number; readers take both. */
export const u32OrMinusOne: Kind<number> = { ...u32, read: (value) => (value === -1 ? MAX_U32 : u32.read(value)) };

function descriptorFrom(min: number): Kind<number> {
  return {
    ...integer(min, MAX_I32),
    shape: { kind: 'descriptor', min, max: MAX_I32 },
    collect: (fd, descriptors) => {
      if (fd >= 0) descriptors.add(fd);
    },
  };
}

/** A descriptor, which outlives exec. */
export const descriptor = descriptorFrom(0);
/** As {@link descriptor}, or -1: C 7.0.0 closes its sockets before it writes the document, and files may be lost. */
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
    // The form that every writer uses: clients wait while thousands are read.
    if (typeof value === 'string' && UUID.test(value)) return value;
    const digits = text.read(value).replace(/-/g, '').toLowerCase();
    if (!/^[0-9a-f]{32}$/.test(digits)) fail('expected a UUID');
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  },
  format: JSON.stringify,
};

/** An object whose keys are ignored. */
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

/** A key that older writers leave out: {@link Defaulted.fallback} then has the value. */
export function defaulted<T>(of: Kind<T>, fallback: (before: Json) => T): Defaulted<T> {
  return { defaulted: of, fallback, omitted: undefined };
}

/** A key that is left out when it has this value. */
export function sparse<T>(of: Kind<T>, omitted: T): Defaulted<T> {
  return { defaulted: of, fallback: () => omitted, omitted };
}

interface Field {
  readonly key: string;
  readonly of: Kind<unknown>;
  readonly isOptional: boolean;
  /** The value of an absent key, if it has one. */
  absent(from: Json): unknown;
  /** See {@link Defaulted.omitted}. */
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

type FieldReader = (from: Json) => Json;

/** So many objects are read by a loop: most documents have few, and a function takes longer to make. */
const FEW = 16;

function readInTurn(fields: readonly Field[], from: Json): Json {
  const state: Json = {};
  for (const field of fields) {
    const { key } = field;
    const value = from[key];
    if (value !== undefined) {
      trail.push(key);
      state[key] = field.of.read(value);
      trail.pop();
    } else if (!field.isOptional) state[key] = field.absent(state);
  }
  return state;
}

/**
 * A function that reads the fields in turn, written out, and makes an object by a literal for each set of optional keys: a loop over the
 * fields takes twice as long, and a hundred thousand resources are read while a C daemon's clients wait. The keys are those of our own
 * descriptions.
 */
function fieldReader(fields: readonly Field[]): FieldReader {
  const literal = (some: readonly Field[]): string =>
    `{ ${some.map((field) => `${JSON.stringify(field.key)}: v${fields.indexOf(field)}`).join(', ')} }`;
  const values = fields.map((_, index) => `v${index}`).join();
  const optionals = fields.filter(({ isOptional }) => isOptional);
  const reads = fields.map((field, index) => {
    const key = JSON.stringify(field.key);
    const present = field.isOptional ? `present |= ${1 << optionals.indexOf(field)};` : '';
    const absent = field.isOptional
      ? ''
      : `else v${index} = fields[${index}].absent(${literal(fields.slice(0, index))});`;
    return `let v${index} = from[${key}];
      if (v${index} !== undefined) {
        ${present}
        trail.push(${key});
        v${index} = fields[${index}].of.read(v${index});
        trail.pop();
      } ${absent}`;
  });
  const makers: unknown[] = [];
  const makerOf = (present: number): unknown => {
    const given = fields.filter((field) => !field.isOptional || (present >> optionals.indexOf(field)) & 1);
    return compile(values, `return ${literal(given)};`);
  };
  const body = `return (from) => {
    let present = 0;
    ${reads.join('\n')}
    return (makers[present] ??= makerOf(present))(${values});
  }`;
  return compile('fields, trail, makers, makerOf', body)(fields, trail, makers, makerOf) as FieldReader;
}

function compile(parameters: string, body: string): (...values: unknown[]) => unknown {
  // eslint-disable-next-line @typescript-eslint/no-implied-eval
  return new Function(parameters, body) as (...values: unknown[]) => unknown;
}

/**
 * An object with these keys, the first of which is always written. Other keys are ignored.
 *
 * @param complain returns the fault of an object whose values contradict each other
 */
export function object<F extends Fields>(
  described: F,
  complain?: (value: ObjectOf<F>) => string | undefined,
): Kind<ObjectOf<F>> {
  const fields = Object.entries(described).map(([key, field], index) => fieldOf(key, field, index));
  const collectors = fields.filter(({ of }) => of.collect !== undefined);
  let shape: Shape | undefined;
  let few = 0;
  let readFields: FieldReader = (from) => {
    if (++few > FEW) readFields = fieldReader(fields);
    return few > FEW ? readFields(from) : readInTurn(fields, from);
  };
  return {
    // Made on demand: a start does not need it.
    get shape() {
      return (shape ??= {
        kind: 'object',
        fields: fields.map(({ key, of, isOptional }) => ({ key, of: of.shape, isOptional })),
      });
    },
    read: (value) => {
      const state = readFields(readObject(value)) as ObjectOf<F>;
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

/** With a collector, if the inner kind has one. */
function collecting<A, T>(inner: A | undefined, make: (inner: A) => Collect<T>): { readonly collect?: Collect<T> } {
  return inner === undefined ? {} : { collect: make(inner) };
}

/** Writes a value as JSON, and adds its descriptors to those that must outlive exec. */
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
 * so is the object that has it.
 */
export function replaceDescriptors(shape: Shape, value: unknown, replace: (fd: number) => number | undefined): unknown {
  switch (shape.kind) {
    case 'descriptor':
      return typeof value === 'number' ? replace(value) : value;
    case 'list':
      return Array.isArray(value) && hasDescriptors(shape.of)
        ? value.map((item) => replaceDescriptors(shape.of, item, replace)).filter((item) => item !== undefined)
        : value;
    case 'map':
      return mapValues(value, (_, item) => replaceDescriptors(shape.of, item, replace));
    case 'object': {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
      const replaced = { ...(value as Json) };
      for (const { key, of, isOptional } of fieldsWithDescriptors(shape)) {
        if (!(key in replaced)) continue;
        const item = replaceDescriptors(of, replaced[key], replace);
        if (item !== undefined) replaced[key] = item;
        else if (isOptional) Reflect.deleteProperty(replaced, key);
        else return undefined;
      }
      return replaced;
    }
    default:
      return value;
  }
}

type ObjectShape = Extract<Shape, { kind: 'object' }>;

const knownFields = new WeakMap<ObjectShape, ObjectShape['fields']>();

/** Those that are, or have, descriptors. */
function fieldsWithDescriptors(shape: ObjectShape): ObjectShape['fields'] {
  let fields = knownFields.get(shape);
  if (fields === undefined) knownFields.set(shape, (fields = shape.fields.filter(({ of }) => hasDescriptors(of))));
  return fields;
}

function hasDescriptors(shape: Shape): boolean {
  switch (shape.kind) {
    case 'descriptor':
      return true;
    case 'list':
    case 'map':
      return hasDescriptors(shape.of);
    case 'object':
      return fieldsWithDescriptors(shape).length > 0;
    default:
      return false;
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
