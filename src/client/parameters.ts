/** Typed parameters of the admin program, read and written by name. */
import { ParameterType, type TypedParameter } from '../../xdr/programs/admin.ts';
import { textOf, word } from './values.ts';

/** The value of a typed parameter. 64-bit ones are bigints. */
export type ParameterValue = number | bigint | boolean | string;

/** Typed parameters by name. */
export type Parameters = Readonly<Record<string, ParameterValue>>;

export function readParameters(params: readonly TypedParameter[]): Parameters {
  return Object.fromEntries(
    params.map(({ field, value }): [string, ParameterValue] => {
      if (value.type === ParameterType.STRING) return [textOf(field), textOf(value.value)];
      return [textOf(field), value.type === ParameterType.BOOLEAN ? value.value !== 0 : value.value];
    }),
  );
}

/** The values that are not undefined, as unsigned numbers. @throws RangeError when one is not */
export function writeUnsigned(values: Readonly<Record<string, number | undefined>>): TypedParameter[] {
  const given = Object.entries(values).filter((entry): entry is [string, number] => entry[1] !== undefined);
  return given.map(([field, value]) => ({ field, value: { type: ParameterType.UINT, value: word(value, field) } }));
}

/** A number among parameters; 0 if missing. */
export function numberAt(parameters: Parameters, name: string): number {
  return Number(parameters[name] ?? 0);
}

/** A text among parameters. */
export function textAt(parameters: Parameters, name: string): string | undefined {
  const value = parameters[name];
  return value === undefined ? undefined : String(value);
}
