/** Writes facts. */
import { writeSync } from 'node:fs';
import type { Fact } from '../facts.ts';
import type { Scene } from '../plan.ts';

/** The longest text of a fact: the serial line is slow. */
const MAX_TEXT = 6000;

export function write(fact: Fact): void {
  writeSync(1, `${JSON.stringify(fact)}\n`);
}

export class Report {
  private readonly scene: Scene;

  constructor(scene: Scene) {
    this.scene = scene;
  }

  check(what: string, ok: boolean, detail = ''): void {
    write({ is: 'checked', scene: this.scene, what, ok, detail: detail.slice(-MAX_TEXT) });
  }

  say(what: string, text: string): void {
    write({ is: 'said', scene: this.scene, what, text: text.trim().slice(-MAX_TEXT) });
  }

  /** From now on the machine is to be reset. */
  arm(): void {
    write({ is: 'armed', scene: this.scene });
  }
}
