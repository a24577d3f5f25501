/**
 * Proves, before anything is given up, that the program at our path can go on. Run as a child, it reads the very document. A program
 * that cannot do that, but answers `--version` as libvirt does, is a C daemon: see c-successor.ts.
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

export type Successor = OwnSuccessor | { readonly kind: 'c'; readonly version: string };

/** The program must not be executed; `message` says why. */
export class UnfitSuccessor extends Error {}

/**
 * Time limit of the child in milliseconds, and the bytes of the document that add one more: a hundred thousand locks take seconds on a
 * busy machine.
 */
const LIMIT_MS = 10_000;
const BYTES_A_MS = 1000;
/** Output beyond this length is dropped. */
const OUTPUT_MAX = 64 * 1024;

export interface Outcome {
  readonly status: number | null;
  readonly output: string;
  /** How it ended, in words. */
  readonly end: string;
}

/**
 * Runs a program to its end, but does not wait for one that hangs in the kernel. Descriptors without close-on-exec would be open in it,
 * too.
 *
 * @param limit in milliseconds
 * @param answersAt the descriptor of its output: 1, or another one, and then it inherits our standard streams
 * @throws UnfitSuccessor when it cannot be run
 */
export async function runProgram(
  program: ByteString,
  args: readonly ByteString[],
  limit: number,
  answersAt: 1 | 3 = 1,
): Promise<Outcome> {
  // Loaded here: it takes milliseconds, for which the clients of a fresh program would wait.
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
    // Without a free descriptor the child has no streams at all, despite the type, and emits `error`.
    const streams = child.stdio as (typeof child)['stdio'] | undefined;
    const answers = streams?.[answersAt] as Readable | undefined;
    let output = '';
    const finish = (status: number | null, end: string): void => {
      clearTimeout(timer);
      setImmediate(() => {
        answers?.destroy();
        resolve({ status, output, end });
      });
    };
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      // Not waiting for its end: it may hang in the kernel.
      finish(null, `took longer than ${limit / 1000} s`);
    }, limit);
    answers
      ?.setEncoding('latin1')
      .on('data', (chunk: string) => {
        if (output.length < OUTPUT_MAX) output += chunk;
      })
      .on('error', (error) => {
        child.kill('SIGKILL');
        finish(null, `gave an answer that cannot be read: ${error.message}`);
      });
    // Not `close`: a process that the child has started may hold the pipe open for ever.
    child.on('exit', (status, signal) => {
      finish(status, signal === null ? `exited with ${status ?? 'no status'}` : `was ended by ${signal}`);
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      reject(cannot(error));
    });
  });
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
