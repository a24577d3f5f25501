/** Writes the facts of one scene. */
import { writeSync } from 'node:fs';
import type { Fact } from '../facts.ts';
import type { SceneName } from '../plan.ts';

/** The longest text of a fact: the serial line is slow. */
const MAX_TEXT = 6000;

export function write(fact: Fact): void {
  writeSync(1, `${JSON.stringify(fact)}\n`);
}

export class Report {
  readonly #scene: SceneName;

  constructor(scene: SceneName) {
    this.#scene = scene;
  }

  check(what: string, ok: boolean, detail = ''): void {
    write({ is: 'checked', scene: this.#scene, what, ok, detail: detail.slice(-MAX_TEXT) });
  }

  say(what: string, text: string): void {
    write({ is: 'said', scene: this.#scene, what, text: text.trim().slice(-MAX_TEXT) });
  }

  measure(what: string, ms: number): void {
    write({ is: 'measured', scene: this.#scene, what, ms: Math.round(ms) });
  }

  free(during: string, file: string, ms: number): void {
    write({ is: 'free', scene: this.#scene, during, file, ms: Math.round(ms * 10) / 10 });
  }
}
