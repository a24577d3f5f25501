/** Arbitrary values of a description. */
import fc from 'fast-check';
import type { Kind, Shape } from '../../../src/state/state.ts';

/** Any byte but NUL, which no name can hold. */
export const bytes = fc.string({ unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)) });

export function anyOf<T>(kind: Kind<T>): fc.Arbitrary<T> {
  return anyOfShape(kind.shape) as fc.Arbitrary<T>;
}

function anyOfShape(shape: Shape): fc.Arbitrary<unknown> {
  switch (shape.kind) {
    case 'integer':
    case 'descriptor':
      // Small ones are more often equal to each other.
      return fc.oneof(
        fc.integer({ min: Math.max(shape.min, -1), max: Math.min(shape.max, 20) }),
        fc.integer({ min: shape.min, max: shape.max }),
      );
    case 'boolean':
      return fc.boolean();
    case 'text':
      return bytes;
    case 'word':
      return fc.constantFrom(...shape.of);
    case 'uuid':
      return fc.uuid();
    case 'nothing':
      return fc.constant(null);
    case 'list':
      return fc.array(anyOfShape(shape.of), { maxLength: 3 });
    case 'map':
      return fc.dictionary(bytes, anyOfShape(shape.of), { maxKeys: 3, noNullPrototype: true });
    case 'object': {
      const model = Object.fromEntries(shape.fields.map(({ key, of }) => [key, anyOfShape(of)]));
      const requiredKeys = shape.fields.filter(({ isOptional }) => !isOptional).map(({ key }) => key);
      return fc.record(model, { requiredKeys, noNullPrototype: true });
    }
  }
}
