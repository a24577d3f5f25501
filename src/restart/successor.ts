/**
 * Proves, before anything is given up, that the program at our path can go on. Run as a child, it reads the very document. A program
 * that cannot do that, but answers `--version` as libvirt does, is a C daemon: see c-successor.ts.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { type Outcome, runChild, SpawnError } from '../posix/child.ts';
import { parseVersion } from '../libvirt/dialect.ts';
import { type Answer, CHECK_BANNER, parseAnswer, REPORT_VARIABLE } from './answers.ts';

/** Another program of our kind. */
export type OwnSuccessor = { readonly kind: 'own' } & Answer;

export type Successor = OwnSuccessor | { readonly kind: 'c'; readonly version: string };

/** The program must not be executed; `message` says why. */
export class UnfitSuccessor extends Error {}

/**
 * Time limit of the child in milliseconds, and the bytes of the document that add one more: a hundred thousand locks take seconds on a
 * busy machine.
 */
const LIMIT_MS = 10_000;
const BYTES_A_MS = 1000;

/**
 * Runs a program to its end, but does not wait for one that hangs.
 *
 * @param limit in milliseconds
 * @param outputAt see {@link Program.outputAt}
 * @throws UnfitSuccessor when it cannot be run
 */
export async function runProgram(
  program: ByteString,
  args: readonly ByteString[],
  limit: number,
  outputAt: 1 | 3 = 1,
): Promise<Outcome> {
  const environment = { ...process.env, [REPORT_VARIABLE]: '1' };
  // The daemon's own directory may have been deleted, which is no fault of the program.
  const directory = outputAt === 1 ? '/' : '';
  try {
    return await runChild({ file: program, args, environment, directory, limit, outputAt });
  } catch (error) {
    if (!(error instanceof SpawnError)) throw error;
    throw new UnfitSuccessor(`${program} cannot be executed: ${error.message}`);
  }
}

/** The time limit of a child for a document, in milliseconds. */
export function limitFor(document: readonly Buffer[]): number {
  return LIMIT_MS + Math.floor(document.reduce((sum, { length }) => sum + length, 0) / BYTES_A_MS);
}

/**
 * @param program the path that will be executed
 * @param stateFile a file that holds the document, for the child to read
 * @param limit of each child, in milliseconds
 * @throws UnfitSuccessor
 */
export async function proveSuccessor(program: ByteString, stateFile: ByteString, limit = LIMIT_MS): Promise<Successor> {
  const check = await runProgram(program, ['--check-state', stateFile], limit);
  if (check.output.startsWith(CHECK_BANNER)) {
    const answer = parseAnswer(check.output.slice(CHECK_BANNER.length));
    if (check.status === 0 && answer !== null) return { kind: 'own', ...answer };
    const reason = check.output.slice(CHECK_BANNER.length).trim();
    throw new UnfitSuccessor(`${program} cannot go on: ${reason === '' ? check.end : reason}`);
  }
  // A C daemon complains about an option that it does not know, and exits with 1.
  const answer = check.status === 1 ? await runProgram(program, ['--version'], limit) : check;
  const version = /^\S+ \(libvirt\) (\d+\.\d+\.\d+)\n$/.exec(answer.output)?.[1];
  if (answer.status !== 0 || version === undefined) {
    throw new UnfitSuccessor(`${program} ${answer.end} and is no virtlockd`);
  }
  if (parseVersion(version) === null) throw new UnfitSuccessor(`${program} calls itself version ${version}`);
  return { kind: 'c', version };
}
