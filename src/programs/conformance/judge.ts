/** The right transcript of an exchange with a daemon of a generation. */
import { isDeepStrictEqual } from 'node:util';
import { type Recording, readRight, readTranscripts } from './exchange/recording.ts';
import type { Exchange } from './exchange/script.ts';
import type { Generation } from '../../lab/generation.ts';

interface Expectation {
  readonly right: readonly string[];
  /** The transcript of the C daemon of that generation, and why it is wrong. */
  readonly known?: { readonly seen: readonly string[]; readonly why: string; readonly mayCrash: boolean };
}

/** The line of a transcript that says so. */
const CRASHED = /^daemon ended: SIG(?:ABRT|BUS|SEGV)$/;

/** The known defect that a wrong transcript shows. */
export function defectIn(seen: readonly string[], { known }: Expectation): string | undefined {
  if (known === undefined) return undefined;
  const hasCrashed = known.mayCrash && seen.some((line) => CRASHED.test(line));
  return hasCrashed || isDeepStrictEqual(seen, known.seen) ? known.why : undefined;
}

export class Judge {
  readonly #recorded: ReadonlyMap<string, readonly string[]>;
  readonly #right: Recording['exchanges'];

  constructor(generation: Generation) {
    this.#recorded = readTranscripts(generation);
    this.#right = readRight(generation);
  }

  /** Undefined for an exchange that was not recorded. */
  expect(exchange: Exchange): Expectation | undefined {
    const recorded = this.#recorded.get(exchange.name);
    if (exchange.defect === undefined) return recorded && { right: recorded };
    const right = this.#right[exchange.name];
    if (right === undefined) return undefined;
    if (recorded === undefined) return { right };
    return { right, known: { seen: recorded, why: exchange.defect, mayCrash: exchange.mayCrash === true } };
  }

  /** The transcript of the C daemon of that generation, right or wrong. */
  recorded(exchange: Exchange): readonly string[] | undefined {
    return this.#recorded.get(exchange.name);
  }
}
