import assert from 'node:assert/strict';
import fc from 'fast-check';
import { inquiry } from '../../../src/inquire/state.ts';
import { ownerEnd, registration } from '../../../src/lockd/state.ts';
import { hold, resource } from '../../../src/lockspace/state.ts';
import { logState } from '../../../src/log/logging.ts';
import { own } from '../../../src/daemon/state.ts';
import { adminClient, lockClient } from '../../../src/restart/document.ts';
import { server } from '../../../src/rpc/state.ts';
import {
  defaulted,
  descriptor,
  descriptorsIn,
  DocumentError,
  type Kind,
  list,
  map,
  maybeDescriptor,
  object,
  optional,
  replaceDescriptors,
  type Shape,
  sparse,
  text,
  u32,
  word,
  write,
} from '../../../src/state/state.ts';
import { anyOf } from './arbitrary.ts';

/** Has a descriptor in every possible place. */
const everywhere = object({
  one: descriptor,
  none: optional(maybeDescriptor),
  assumed: defaulted(descriptor, () => 3),
  rare: sparse(descriptor, 3),
  many: list(object({ name: text, fd: optional(descriptor) })),
  named: map(list(descriptor)),
});

const described: Readonly<Record<string, Kind<unknown>>> = {
  server,
  lockClient,
  adminClient,
  registration,
  resource,
  hold,
  logState,
  inquiry,
  ownerEnd,
  own,
  everywhere,
};

/** Every descriptor in a value, found by its shape alone. */
function* found(shape: Shape, value: unknown): Generator<number> {
  if (value === undefined) return;
  const fields = value as Readonly<Record<string, unknown>>;
  if (shape.kind === 'descriptor' && Number(value) >= 0) yield Number(value);
  if (shape.kind === 'list' || shape.kind === 'map') {
    for (const item of Object.values(fields)) yield* found(shape.of, item);
  }
  if (shape.kind === 'object') for (const { key, of } of shape.fields) yield* found(of, fields[key]);
}

/** Values whose keys do not contradict each other: the description alone does not ensure that. */
function isSound(kind: Kind<unknown>, value: unknown): boolean {
  try {
    kind.read(value);
    return true;
  } catch (error) {
    assert.ok(error instanceof DocumentError);
    return false;
  }
}

describe('described state', () => {
  for (const [name, kind] of Object.entries(described)) {
    const any = anyOf(kind).filter((value) => isSound(kind, value));

    it(`${name}: what is written is read again, whatever it is`, () => {
      fc.assert(
        fc.property(any, (value) => {
          const written = write(kind, value, new Set());
          assert.deepEqual(kind.read(JSON.parse(written)), value);
        }),
      );
    });

    it(`${name}: every descriptor that is written outlives exec, and no other number`, () => {
      fc.assert(
        fc.property(any, (value) => {
          const descriptors = new Set<number>();
          write(kind, value, descriptors);
          assert.deepEqual(descriptors, new Set(found(kind.shape, value)));
          assert.deepEqual(descriptorsIn(kind, value), descriptors);
        }),
      );
    });

    it(`${name}: every descriptor is replaced, and nothing else`, () => {
      const other = (fd: number): number => (fd < 0 ? fd : fd ^ 1);
      fc.assert(
        fc.property(any, (value) => {
          const json = JSON.parse(write(kind, value, new Set())) as unknown;
          const replaced = replaceDescriptors(kind.shape, json, other);
          assert.deepEqual([...found(kind.shape, replaced)], [...found(kind.shape, json)].map(other));
          assert.deepEqual(replaceDescriptors(kind.shape, replaced, other), json);
        }),
      );
    });
  }

  it('is written in the order in which it is described, without what is absent', () => {
    const kind = object({ a: u32, b: optional(text), c: sparse(u32, 0), d: optional(list(u32)) });
    assert.equal(kind.format({ d: [1, 2], c: 0, b: 'x', a: 1 }), '{"a":1,"b":"x","d":[1,2]}');
    assert.equal(kind.format({ a: 1, b: undefined, c: 5 }), '{"a":1,"c":5}');
  });

  it('loses what a descriptor is lacking for, and no more', () => {
    const value = { one: 1, none: 2, many: [{ name: 'a', fd: 2 }, { name: 'b' }], named: { c: [2, 4] } };
    const without = (gone: number) => (fd: number) => (fd === gone ? undefined : fd);
    assert.deepEqual(replaceDescriptors(everywhere.shape, value, without(2)), {
      one: 1,
      many: [{ name: 'a' }, { name: 'b' }],
      named: { c: [4] },
    });
    assert.equal(replaceDescriptors(everywhere.shape, value, without(1)), undefined);
  });

  it('is one of certain words, and no other', () => {
    const one = word('ofd', 'posix');
    assert.equal(one.read('ofd'), 'ofd');
    for (const other of ['', 'OFD', 'toString', 1, null]) assert.throws(() => one.read(other), DocumentError);
  });

  it('assumes for an absent key what the keys before it say', () => {
    const kind = object({ a: u32, b: defaulted(u32, ({ a }) => u32.read(a) + 1), c: sparse(u32, 7) });
    assert.deepEqual(kind.read({ a: 1 }), { a: 1, b: 2, c: 7 });
  });
});
