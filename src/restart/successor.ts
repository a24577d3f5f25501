/**
 * Proves, before anything is given up, that the program at our path can go on where we stop. A child of it reads the very
 * document; one that does not know how to, but answers `--version` as libvirt does, is a C daemon, which is trusted with a
 * document that its version can read.
 */
import { isUtf8 } from 'node:buffer';
import { setImmediate as turn } from 'node:timers/promises';
import type { ByteString } from '../../xdr/codec.ts';
import { bytesOf, commandOf } from '../posix/bytes.ts';
import { parseVersion } from '../rpc/dialect.ts';
import { asciiDocument, C_DOCUMENT_MAX } from './document.ts';

/** What the program at our path is. */
export type Successor =
  | {
      readonly kind: 'own';
      /** What the program's launcher executes: the runtime and its arguments, up to the path of the program. */
      readonly command: readonly [ByteString, ...ByteString[]];
    }
  | { readonly kind: 'c'; readonly version: string };

/** The program must not be executed; `message` says why. */
export class UnfitSuccessor extends Error {}

/** How long the child may take, in milliseconds, and how many bytes of the document give it another one: 16 MiB a second. */
const LIMIT_MS = 10_000;
const BYTES_A_MS = 16 * 1024;
/** The oldest C daemon that is known to read a document with locks in it. */
const FIRST_C_THAT_RESUMES = 9_000_000;
/** How much of what it prints is looked at. */
const OUTPUT_MAX = 64 * 1024;

/** First line of what `--check-state` prints, whether the document is good or bad; nothing else prints it by chance. */
export const CHECK_BANNER = 'virtlockd state document check 1';
/** Exit status of `--check-state` for a document that cannot be read. */
export const CHECK_FAILED = 3;

interface Outcome {
  readonly status: number | null;
  readonly signal: string | null;
  readonly output: string;
}

/** Runs the program to its end. @throws UnfitSuccessor when it cannot be run or takes too long */
async function run(program: ByteString, args: readonly ByteString[], limit: number): Promise<Outcome> {
  // Loaded here: it takes milliseconds, which a daemon that has just been executed does not have.
  const { spawn } = process.getBuiltinModule('node:child_process');
  await turn();
  const command = commandOf([program, ...args]);
  return new Promise((resolve, reject) => {
    const child = spawn(command.file, command.args, {
      // The daemon's own may have been deleted, which is no fault of the program.
      cwd: '/',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: limit,
      killSignal: 'SIGKILL',
    });
    let output = '';
    child.stdout.setEncoding('latin1');
    child.stdout.on('data', (chunk: string) => {
      if (output.length < OUTPUT_MAX) output += chunk;
    });
    // Not `close`: something that the child left behind may hold the pipe open for ever.
    child.on('exit', (status, signal) => {
      setImmediate(() => {
        child.stdout.destroy();
        resolve({ status, signal, output });
      });
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      reject(new UnfitSuccessor(`${program} cannot be executed: ${bytesOf(error.message)}`));
    });
  });
}

function limitFor(document: readonly Buffer[]): number {
  return LIMIT_MS + Math.floor(document.reduce((sum, { length }) => sum + length, 0) / BYTES_A_MS);
}

function describe({ status, signal }: Outcome): string {
  if (signal === null) return `exited with ${status ?? 'no status'}`;
  return signal === 'SIGKILL' ? `was killed, or took too long` : `was ended by ${signal}`;
}

/**
 * @param program the path that will be executed
 * @param stateFile a file that holds the pieces of `document`, for the child to read
 * @param limit how long each child may take, in milliseconds
 * @throws UnfitSuccessor
 */
export async function proveSuccessor(
  program: ByteString,
  stateFile: ByteString,
  document: readonly Buffer[],
  limit = limitFor(document),
): Promise<Successor> {
  const check = await run(program, ['--check-state', stateFile], limit);
  if (check.output.startsWith(CHECK_BANNER)) {
    const command = parseCommand(check.output.slice(CHECK_BANNER.length));
    if (check.status === 0 && command !== null) return { kind: 'own', command };
    const reason = check.output.slice(CHECK_BANNER.length).trim();
    throw new UnfitSuccessor(`${program} cannot read the state: ${reason === '' ? describe(check) : reason}`);
  }
  // A C daemon complains about an option that it does not know, and exits with 1.
  const answer = check.status === 1 ? await run(program, ['--version'], limit) : check;
  const version = /^\S+ \(libvirt\) (\d+\.\d+\.\d+)\n$/.exec(answer.output)?.[1];
  if (answer.status !== 0 || version === undefined) {
    throw new UnfitSuccessor(`${program} ${describe(answer)} and is no virtlockd`);
  }
  if (parseVersion(version) === null) throw new UnfitSuccessor(`${program} calls itself version ${version}`);
  documentForC(document, version);
  return { kind: 'c', version };
}

/** What `--check-state` prints for a good document, behind its banner. */
export function formatCommand(command: readonly string[]): string {
  return `${JSON.stringify(command)}\n`;
}

function parseCommand(text: ByteString): readonly [ByteString, ...ByteString[]] | null {
  try {
    const words = JSON.parse(text) as unknown;
    if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) return null;
    const [first, ...rest] = words;
    return first === undefined ? null : [first, ...rest];
  } catch {
    return null;
  }
}

/**
 * The document as a C daemon of this version can read it, in ASCII alone.
 *
 * @throws UnfitSuccessor when it cannot, for it would exit with all locks lost
 */
export function documentForC(pieces: readonly Buffer[], version: string): Buffer {
  const checkSize = (bytes: number): void => {
    if (bytes <= C_DOCUMENT_MAX) return;
    throw new UnfitSuccessor(`the state takes ${bytes} bytes, and libvirt ${version} reads at most ${C_DOCUMENT_MAX}`);
  };
  // Clients would wait while one that is much too large is put together and escaped, which only makes it larger.
  checkSize(pieces.reduce((sum, { length }) => sum + length, 0));
  const document = Buffer.concat(pieces);
  // Of every version seen, though 11.3.0 and 12.8.0 write such names themselves.
  if (!isUtf8(document)) {
    throw new UnfitSuccessor(`the state holds names that are no UTF-8, which libvirt ${version} cannot read`);
  }
  // 7.0.0 crashes on any document with a resource in it. Quotes in names are escaped, so this is a key.
  if ((parseVersion(version) ?? 0) < FIRST_C_THAT_RESUMES && document.includes('"lockHeld":')) {
    throw new UnfitSuccessor(`libvirt ${version} cannot take over locks: only 9.0.0 and later are known to`);
  }
  // It would exit. Quotes in names are escaped, so these are keys.
  if (document.includes('"fd":-1,"lockHeld":')) {
    throw new UnfitSuccessor(`a held resource has no descriptor, without which libvirt ${version} cannot take it over`);
  }
  const ascii = asciiDocument(document);
  checkSize(ascii.length);
  return ascii;
}
