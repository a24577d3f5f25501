/**
 * getopt_long(3) of glibc: bundled short options, `-fFILE`, `--name=VALUE`, unambiguous prefixes, permuted operands, `--`, and its error
 * texts.
 */

/** An option. An `exact` one has no prefixes, so that it makes none of the C daemon's options ambiguous. */
export interface OptionSpec<Name extends string = string> {
  name: Name;
  short?: string;
  argument: boolean;
  exact?: boolean;
}

/** An option with its argument, or an error without the program's name. */
export type Found<Name extends string = string> = { name: Name; value: string } | { error: string };

/** Yields the options of `args` in order. Operands are skipped wherever they stand; `--` ends the options. */
export function* getoptLong<Name extends string>(
  specs: readonly OptionSpec<Name>[],
  args: readonly string[],
): Generator<Found<Name>, void> {
  const rest = args[Symbol.iterator]();
  for (const arg of rest) {
    if (arg === '--') return;
    if (arg.startsWith('--')) {
      yield long(specs, arg.slice(2), () => rest.next().value);
    } else if (arg.startsWith('-') && arg.length > 1) {
      yield* bundle(specs, arg.slice(1), () => rest.next().value);
    }
  }
}

/** One `--name` or `--name=value`. */
function long<Name extends string>(
  specs: readonly OptionSpec<Name>[],
  text: string,
  next: () => string | undefined,
): Found<Name> {
  const equals = text.indexOf('=');
  const name = equals < 0 ? text : text.slice(0, equals);
  const given = equals < 0 ? undefined : text.slice(equals + 1);
  const matching = specs.filter((spec) => !spec.exact && spec.name.startsWith(name));
  const spec = specs.find((candidate) => candidate.name === name) ?? matching[0];
  if (spec === undefined) return { error: `unrecognized option '--${text}'` };
  if (spec.name !== name && matching.length > 1) {
    const names = matching.map((candidate) => ` '--${candidate.name}'`).join('');
    return { error: `option '--${text}' is ambiguous; possibilities:${names}` };
  }
  if (!spec.argument) {
    if (given !== undefined) return { error: `option '--${spec.name}' doesn't allow an argument` };
    return { name: spec.name, value: '' };
  }
  const value = given ?? next();
  if (value === undefined) return { error: `option '--${spec.name}' requires an argument` };
  return { name: spec.name, value };
}

/** The short options of one word, without its hyphen. */
function* bundle<Name extends string>(
  specs: readonly OptionSpec<Name>[],
  word: string,
  next: () => string | undefined,
): Generator<Found<Name>, void> {
  for (let at = 0; at < word.length; at++) {
    const letter = word.charAt(at);
    const spec = specs.find((candidate) => candidate.short === letter);
    if (spec === undefined) {
      yield { error: `invalid option -- '${letter}'` };
    } else if (!spec.argument) {
      yield { name: spec.name, value: '' };
    } else {
      const value = at + 1 < word.length ? word.slice(at + 1) : next();
      yield value === undefined ? { error: `option requires an argument -- '${letter}'` } : { name: spec.name, value };
      return;
    }
  }
}
