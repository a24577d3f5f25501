/** The right transcript of an exchange with a daemon of a generation. */
import { type Recording, readRight, readTranscripts } from './exchange/recording.ts';
import type { Exchange } from './exchange/script.ts';
import type { Generation } from '../../lab/generation.ts';

interface Expectation {
  readonly right: readonly string[];
  /** The transcript of the C daemon of that generation, and why it is wrong. */
  readonly known?: { readonly seen: readonly string[]; readonly why: string };
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
    return recorded === undefined ? { right } : { right, known: { seen: recorded, why: exchange.defect } };
  }

  /** The transcript of the C daemon of that generation, right or wrong. */
  recorded(exchange: Exchange): readonly string[] | undefined {
    return this.#recorded.get(exchange.name);
  }
}
