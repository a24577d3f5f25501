/**
 * What QEMU's user mode does otherwise than the kernel of what the lock daemon asks of it. native/probe.c asks on this machine's kernel,
 * by itself and under emulation, so that a difference is the emulation's.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { compile } from '../../../src/lab/compile.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { withForeignPrograms } from './foreign.ts';

export interface Difference {
  readonly what: string;
  /** An error's name, or what was seen in place of the right thing. */
  readonly emulated: string;
}

/** Undefined: this machine's own. */
const COMPILERS = { native: undefined, arm64: 'aarch64-linux-gnu-gcc' } as const;
/** What a kernel newer than some headers has. */
const HEADERS = `-I${join(checkout, 'src/posix')}`;
/** In ms. */
const LIMIT = 120_000;

/** The answers by what was asked. @throws Error when the probe has not asked for everything */
export function answersIn(output: string): ReadonlyMap<string, string> {
  const answers = output
    .trimEnd()
    .split('\n')
    .map((line): [string, string] => {
      const [what = '', answer] = line.split('\t');
      if (answer === undefined) throw new Error(`no answer of the probe: ${line}`);
      return [what, answer];
    });
  return new Map(answers);
}

/** What works natively alone. */
export function differencesOf(
  native: ReadonlyMap<string, string>,
  emulated: ReadonlyMap<string, string>,
): Difference[] {
  return [...native].flatMap(([what, answer]) => {
    const other = emulated.get(what) ?? 'no answer';
    return answer === 'ok' && other !== 'ok' ? [{ what, emulated: other }] : [];
  });
}

/** @throws Error when the probe cannot be compiled or run */
export async function emulationDifferences(): Promise<Difference[]> {
  const answers = (kind: keyof typeof COMPILERS): ReadonlyMap<string, string> => {
    const program = join(checkout, 'build/arm64', `probe-${kind}`);
    compile(program, [join(import.meta.dirname, 'native/probe.c')], ['-static', HEADERS], COMPILERS[kind]);
    return answersIn(execFileSync(program, { encoding: 'utf8', timeout: LIMIT }));
  };
  return withForeignPrograms(() => differencesOf(answers('native'), answers('arm64')));
}
