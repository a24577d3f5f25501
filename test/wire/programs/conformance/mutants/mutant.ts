/** A deliberately broken daemon: this project's own source with a fault put in while it is bundled. */

/** One text to be replaced in one file. The text must be there exactly once. */
export interface Edit {
  /** Relative to the checkout. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Mutant {
  /** Unique. */
  readonly name: string;
  readonly edits: readonly Edit[];
  /** The names of the checks whose promise the fault breaks. */
  readonly caughtBy: readonly string[];
}

/** A mutant with one fault in one place. */
export function mutant(name: string, file: string, find: string, replace: string, caughtBy: readonly string[]): Mutant {
  return { name, edits: [{ file, find, replace }], caughtBy };
}
