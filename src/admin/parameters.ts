/** Makes typed parameters, and checks those of a caller. */
import type { ByteString } from '../../xdr/codec.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { ParameterType, type TypedParameter } from '../../xdr/programs/admin.ts';
import type { Dialect } from '../libvirt/dialect.ts';
import { RpcError } from '../libvirt/errors.ts';

/** The most bytes in a parameter's name: C keeps it in 80, the closing NUL included. */
const MAX_FIELD = 79;

/** The names that C gives to the types in errors. */
const TYPE_NAMES = {
  [ParameterType.INT]: 'int',
  [ParameterType.UINT]: 'uint',
  [ParameterType.LLONG]: 'llong',
  [ParameterType.ULLONG]: 'ullong',
  [ParameterType.DOUBLE]: 'double',
  [ParameterType.BOOLEAN]: 'boolean',
  [ParameterType.STRING]: 'string',
} as const;

export function int(field: string, value: number): TypedParameter {
  return { field, value: { type: ParameterType.INT, value } };
}

export function uint(field: string, value: number): TypedParameter {
  return { field, value: { type: ParameterType.UINT, value } };
}

export function boolean(field: string, value: boolean): TypedParameter {
  return { field, value: { type: ParameterType.BOOLEAN, value: value ? 1 : 0 } };
}

export function text(field: string, value: ByteString): TypedParameter {
  return { field, value: { type: ParameterType.STRING, value } };
}

/** Refuses names that are too long for C, which checks that while it decodes, before it checks flags. */
export function checkFieldLengths(params: readonly TypedParameter[]): void {
  for (const { field } of params) {
    if (field.length <= MAX_FIELD) continue;
    throw new RpcError(ErrorCode.INTERNAL_ERROR, ErrorDomain.NONE, `parameter ${field} too big for destination`);
  }
}

/**
 * The values of unsigned parameters by name, of the ones `known`. Throws an RpcError for the first fault in the order
 * in which C finds them: by name, bytewise, and among equal names as given; of one parameter first whether it is known,
 * then whether it came before, then its type.
 */
export function readUnsigned<K extends string>(
  params: readonly TypedParameter[],
  known: readonly K[],
  dialect: Dialect,
): Partial<Record<K, number>> {
  const values: Partial<Record<K, number>> = {};
  // Fields are byte strings, so comparing code units compares bytes; toSorted is stable, as is C's sort.
  const sorted = params.toSorted((a, b) => (a.field < b.field ? -1 : a.field > b.field ? 1 : 0));
  for (const { field, value } of sorted) {
    const key = known.find((candidate) => candidate === field);
    if (key === undefined) {
      const detail = `parameter '${field}' not supported`;
      throw new RpcError(ErrorCode.ARGUMENT_UNSUPPORTED, ErrorDomain.NONE, detail);
    }
    if (key in values) throw invalid(`parameter '${field}' occurs multiple times`);
    if (value.type !== ParameterType.UINT) {
      const types: [string, string] = [TYPE_NAMES[value.type], TYPE_NAMES[ParameterType.UINT]];
      const [given, wanted] = dialect.wrongTypeSwapped ? types.toReversed() : types;
      throw invalid(`invalid type '${given ?? ''}' for parameter '${field}', expected '${wanted ?? ''}'`);
    }
    values[key] = value.value;
  }
  return values;
}

/** The error for a parameter, or several together, that make no sense. */
export function invalid(detail: ByteString, domain: ErrorDomain = ErrorDomain.NONE): RpcError {
  return new RpcError(ErrorCode.INVALID_ARG, domain, detail);
}
