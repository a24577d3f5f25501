/**
 * Proves, before anything is given up, that the program at our path can go on. Run as a child, it reads the very document. A program
 * that cannot do that, but answers `--version` as libvirt does, is a C daemon: see c-successor.ts. Ours prints the same, and
 * before it the banner for a daemon that proves it: the runtime may just not have been able to read it, and with a C daemon's document it
 * would poll descriptors that it was not left.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { type Outcome, runChild, SpawnError } from '../posix/child.ts';
import { parseVersion } from '../libvirt/dialect.ts';
import { logger } from '../log/log.ts';
import { now } from '../posix/clock.ts';
import { processorTimeOf } from '../proc/processes.ts';
import { type Answer, CHECK_BANNER, parseAnswer, REPORT_VARIABLE } from './answers.ts';
import { PROOF_TIME, type ProofTime } from './proof-time.ts';

/** Another program of our kind. */
export type OwnSuccessor = { readonly kind: 'own' } & Answer;

export type Successor = OwnSuccessor | { readonly kind: 'c'; readonly version: string };

/** The program must not be executed; `message` says why. */
export class UnfitSuccessor extends Error {}

const log = logger('locking.lock_daemon');

/** The bytes of the document that add a millisecond: a hundred thousand locks take seconds on a busy machine. */
const BYTES_A_MS = 1000;
/** What of the time for doing nothing is over when the log says that the proof takes long: more than all, for then it may end. */
const SLOW = 1.2;

/**
 * Runs a program to its end, but does not wait for one that hangs.
 *
 * @param limit in milliseconds
 * @param outputAt see {@link Program.outputAt}
 * @param longest see {@link ProofTime}; by default `limit` is for all
 * @throws UnfitSuccessor when it cannot be run
 */
export async function runProgram(
  program: ByteString,
  args: readonly ByteString[],
  limit: number,
  outputAt: 1 | 3 = 1,
  longest?: number,
): Promise<Outcome> {
  const environment = { ...process.env, [REPORT_VARIABLE]: '1' };
  // The daemon's own directory may have been deleted, which is no fault of the program.
  const directory = outputAt === 1 ? '/' : '';
  try {
    const atWork = longest === undefined ? {} : { atWork: { longest, processorTimeOf: processorTime } };
    return await runChild({ file: program, args, environment, directory, limit, outputAt, ...atWork });
  } catch (error) {
    if (!(error instanceof SpawnError)) throw error;
    throw new UnfitSuccessor(`${program} cannot be executed: ${error.message}`);
  }
}

/** As {@link AtWork.processorTimeOf}. */
function processorTime(pid: number): number {
  try {
    return processorTimeOf(pid);
  } catch {
    return 0;
  }
}

/** The time for the proof with a document. */
export function timeFor(document: readonly Buffer[]): ProofTime {
  const size = document.reduce((sum, { length }) => sum + length, 0);
  const limit = PROOF_TIME.limit + Math.floor(size / BYTES_A_MS);
  return { limit, longest: Math.max(PROOF_TIME.longest, limit) };
}

/**
 * @param program the path that will be executed
 * @param stateFile a file that holds the document, for the child to read
 * @throws UnfitSuccessor
 */
export async function proveSuccessor(
  program: ByteString,
  stateFile: ByteString,
  time: ProofTime = PROOF_TIME,
): Promise<Successor> {
  const slow = setTimeout(() => {
    log.warn(
      `${program} takes long to prove that it can go on: it gets up to ${time.longest / 1000} s, and clients are served`,
    );
  }, time.limit * SLOW);
  try {
    return await prove(program, stateFile, time);
  } finally {
    clearTimeout(slow);
  }
}

/** As {@link proveSuccessor}. */
async function prove(program: ByteString, stateFile: ByteString, { limit, longest }: ProofTime): Promise<Successor> {
  const until = now() + longest;
  const checkState = ['--check-state', stateFile];
  const check = await runProgram(program, checkState, limit, 1, longest);
  const run = async (args: readonly ByteString[]): Promise<Outcome> =>
    runProgram(program, args, limit, 1, Math.max(until - now(), limit));
  if (isOurs(check)) return ownAnswer(program, check);
  // A C daemon complains about an option that it does not know, and exits with 1.
  const answer = check.status === 1 ? await run(['--version']) : check;
  // So does ours when its runtime cannot read it at that moment.
  const again = answer === check ? check : await run(checkState);
  if (isOurs(again)) return ownAnswer(program, again);
  if (isOurs(answer)) throw new UnfitSuccessor(`${program} cannot go on: ${check.end} before it had read the state`);
  const version = /^\S+ \(libvirt\) (\d+\.\d+\.\d+)\n$/.exec(answer.output)?.[1];
  if (answer.status !== 0 || version === undefined) {
    throw new UnfitSuccessor(`${program} ${answer.end} and is no virtlockd`);
  }
  if (again.status !== 1) throw new UnfitSuccessor(`${program} ${again.end}, and its kind is not known`);
  if (parseVersion(version) === null) throw new UnfitSuccessor(`${program} calls itself version ${version}`);
  return { kind: 'c', version };
}

function isOurs({ output }: Outcome): boolean {
  return output.startsWith(CHECK_BANNER);
}

/** @throws UnfitSuccessor */
function ownAnswer(program: ByteString, check: Outcome): OwnSuccessor {
  const answer = parseAnswer(check.output.slice(CHECK_BANNER.length));
  if (check.status === 0 && answer !== null) return { kind: 'own', ...answer };
  const reason = check.output.slice(CHECK_BANNER.length).trim();
  throw new UnfitSuccessor(`${program} cannot go on: ${reason === '' ? check.end : reason}`);
}
