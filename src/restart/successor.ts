/**
 * Proves, before anything is given up, that the program at our path can go on where we stop. A child of it reads the very
 * document; one that does not know how to, but answers `--version` as libvirt does, is a C daemon: see c-successor.ts.
 */
import type { ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import type { ByteString } from '../../xdr/codec.ts';
import { bytesOf, commandOf } from '../posix/bytes.ts';
import { parseVersion } from '../libvirt/dialect.ts';
import { type Answer, CHECK_BANNER, parseAnswer, REPORT_VARIABLE } from './answers.ts';

/** Another program of our kind. */
export type OwnSuccessor = { readonly kind: 'own' } & Answer;

/** What the program at our path is. */
export type Successor = OwnSuccessor | { readonly kind: 'c'; readonly version: string };

/** The program must not be executed; `message` says why. */
export class UnfitSuccessor extends Error {}

/**
 * How long the child may take, in milliseconds, and how many bytes of the document give it another one: a hundred thousand locks
 * take seconds on a busy machine.
 */
const LIMIT_MS = 10_000;
const BYTES_A_MS = 1000;
/** How much of what it prints is looked at. */
const OUTPUT_MAX = 64 * 1024;

/** What became of a child. */
export interface Outcome {
  readonly status: number | null;
  /** What it printed, as bytes. */
  readonly output: string;
  /** How it ended, in words. */
  readonly end: string;
}

/**
 * Runs a program to its end. One that is waited for in vain, as it hangs in the kernel, is left to itself. Descriptors that
 * outlive exec would be open in it, too.
 *
 * @param limit how long it may take, in milliseconds
 * @param answersAt where it prints: 1, or a descriptor beside the standard streams, which it has from us then
 * @throws UnfitSuccessor when it cannot be run
 */
export async function runProgram(
  program: ByteString,
  args: readonly ByteString[],
  limit: number,
  answersAt: 1 | 3 = 1,
): Promise<Outcome> {
  // Loaded here: it takes milliseconds, which a daemon that has just been executed does not have.
  const { spawn } = process.getBuiltinModule('node:child_process');
  await turn();
  const command = commandOf([program, ...args]);
  return new Promise((resolve, reject) => {
    const cannot = (error: unknown): UnfitSuccessor =>
      new UnfitSuccessor(`${program} cannot be executed: ${bytesOf((error as Error).message)}`);
    let child: ChildProcess;
    try {
      child = spawn(command.file, command.args, {
        // The daemon's own may have been deleted, which is no fault of the program.
        ...(answersAt === 1 ? { cwd: '/' } : {}),
        stdio: answersAt === 1 ? ['ignore', 'pipe', 'ignore'] : ['inherit', 'inherit', 'inherit', 'pipe'],
        env: { ...process.env, [REPORT_VARIABLE]: '1' },
      });
    } catch (error) {
      reject(cannot(error));
      return;
    }
    // Without a free descriptor the child has no streams at all, whatever its type says, and an `error` follows.
    const streams = child.stdio as (typeof child)['stdio'] | undefined;
    const answers = streams?.[answersAt] as Readable | undefined;
    let output = '';
    const settle = (status: number | null, end: string): void => {
      clearTimeout(timer);
      setImmediate(() => {
        answers?.destroy();
        resolve({ status, output, end });
      });
    };
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      // Its end is not waited for: the kernel may not let go of it.
      settle(null, `took longer than ${limit / 1000} s`);
    }, limit);
    answers
      ?.setEncoding('latin1')
      .on('data', (chunk: string) => {
        if (output.length < OUTPUT_MAX) output += chunk;
      })
      .on('error', (error) => {
        child.kill('SIGKILL');
        settle(null, `gave an answer that cannot be read: ${error.message}`);
      });
    // Not `close`: something that the child left behind may hold the pipe open for ever.
    child.on('exit', (status, signal) => {
      settle(status, signal === null ? `exited with ${status ?? 'no status'}` : `was ended by ${signal}`);
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      reject(cannot(error));
    });
  });
}

/** How long a child may take for a document. */
export function limitFor(document: readonly Buffer[]): number {
  return LIMIT_MS + Math.floor(document.reduce((sum, { length }) => sum + length, 0) / BYTES_A_MS);
}

/**
 * @param program the path that will be executed
 * @param stateFile a file that holds the document, for the child to read
 * @param limit how long each child may take, in milliseconds
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
