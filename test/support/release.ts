/** Programs that a daemon may find at its path when it executes itself. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { installRoot } from '../../src/posix/root.ts';

const REAL = join(installRoot, 'bin/virtlockd');

/** Lines of shell: a proof of the state by the real program, and by one that knows less than it. */
export const PROOF = `${REAL} "$@"`;
/** A release that knows no other locks than those of C, and so no store. */
export const PROOF_WITHOUT_KINDS = `${PROOF} | sed 's/,"locks":[[][^]]*]//'`;
/** A release without storage helpers. */
export const PROOF_WITHOUT_HELPERS = `${PROOF} | sed 's/,"storage":true//'`;

/** Puts another release in a program's place: the real one, but for what it says to the daemon that asks whether it knows the state. */
export function replaceProgram(path: string, proof: string): void {
  rmSync(path, { force: true });
  writeFileSync(path, `#!/bin/sh\ncase $1 in --check-state) ${proof};; *) exec ${PROOF};; esac\n`, { mode: 0o755 });
}

/** A program in a directory of its own, where its stand-ins leave files, too. */
export class Program {
  readonly path: string;
  private readonly directory = mkdtempSync(join(tmpdir(), 'virtlockd-program-'));

  constructor() {
    this.path = this.at('virtlockd');
    symlinkSync(REAL, this.path);
  }

  at(name: string): string {
    return join(this.directory, name);
  }

  replace(proof: string): void {
    replaceProgram(this.path, proof);
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
