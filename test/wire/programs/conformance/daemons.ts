/** Makes checks of a program of this checkout, or of a mutant of it. */
import type { Check, Result } from '../../../../src/programs/conformance/check.ts';
import { checks } from '../../../../src/programs/conformance/checks.ts';
import { Lab } from '../../../../src/lab/root.ts';
import { run } from '../../../../src/programs/conformance/run.ts';
import { StartedSubject, type Subject } from '../../../../src/programs/conformance/subject.ts';
import { ownDirectories } from '../../../../src/lab/trees.ts';

/** The checks with these names. @throws Error when one does not exist */
export function checksNamed(names: Iterable<string>): Check[] {
  return [...new Set(names)].map((name) => {
    const found = checks.find((check) => check.name === name);
    if (found === undefined) throw new Error(`there is no check ${name}`);
    return found;
  });
}

interface Making {
  readonly checks: readonly Check[];
  /** Directories that the program needs beside the checkout. */
  readonly share?: readonly string[];
  readonly jobs?: number;
  /** How long a check may take, in ms. */
  readonly limit?: number;
  readonly onResult?: (result: Result) => void;
}

/** Starts the program as often as needed, and makes the checks of it. */
export async function makeChecks(program: string, { share = [], jobs = 1, ...plan }: Making): Promise<Result[]> {
  const open = async (): Promise<Subject> =>
    new StartedSubject(await Lab.open({ share: [...ownDirectories, ...share], offline: true }), [program]);
  return run({ ...plan, open, generation: '12.8.0', jobs });
}
