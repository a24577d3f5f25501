/** Ways to break the daemon that the campaign must notice. */
import { type Mutant, mutant } from '../../wire/programs/conformance/mutants/mutant.ts';

/** Its edits come with the daemon's side. */
export const breakages: Readonly<Record<string, Mutant>> = {};
export const makeBreakage = mutant;
