/** Command lines of the programs that try daemons. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs, type ParseArgsConfig } from 'node:util';

import { installRoot } from '../posix/root.ts';

/** The version of this package. */
export const packageVersion = (): string =>
  (JSON.parse(readFileSync(join(installRoot, 'package.json'), 'utf8')) as { version: string }).version;

export class UsageError extends Error {}

/** As parseArgs. @throws UsageError */
export function parseCommandLine<const T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** The word of a list. @throws UsageError that names `what` for any other */
export function oneOf<const T extends string>(what: string, words: readonly T[], text: string): T {
  const found = words.find((word) => word === text);
  if (found === undefined) throw new UsageError(`no ${what} '${text}': ${words.join(', ')}`);
  return found;
}

/** The words of a list that are separated by commas in the text. @throws UsageError that names `what` for any other */
export function listOf<const T extends string>(what: string, words: readonly T[], text: string): T[] {
  return text.split(',').map((word) => oneOf(what, words, word));
}

/** @throws UsageError unless the text is an integer of `least` or more */
export function wholeNumber(option: string, text: string, least = 0): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least) {
    throw new UsageError(`--${option}: '${text}' must be an integer of ${least} or more`);
  }
  return value;
}
