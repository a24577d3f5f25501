/**
 * One side of `lockspace test`: does with files what the other side asks. Each of its calls may hang, and only this process with it. It outlives
 * signals and the end of its output, because it must remove its files: it ends with its input.
 */
import { closeSync, constants, openSync, readlinkSync, unlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { createInterface } from 'node:readline';
import type { ByteString } from '../../../../xdr/codec.ts';
import { errnoName } from '../../../posix/errno-name.ts';
import { LockType, posix } from '../../../posix/posix.ts';
import { type LockKind, setLock } from '../../../posix/record-lock.ts';
import { bootId } from '../../../proc/kernel.ts';
import { descriptorInfo } from '../../../proc/locks.ts';
import { mountDetails } from '../../../proc/mounts.ts';
import { toPath } from '../context.ts';
import { complain } from '../output.ts';
import { GREETING, type Place, TEST_FILE, unwrap, wrap } from './protocol.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
const FILE_MODE = 0o600;

/** Serves until the end of standard input. */
export async function serveSide(): Promise<void> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
  // The end of the input follows.
  process.stdout.on('error', () => undefined);
  const side = new TestFiles();
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  say(GREETING);
  for await (const line of createInterface({ input: process.stdin })) say(answerOf(side, line));
  try {
    side.clear();
  } catch (error) {
    complain((error as Error).message);
  }
}

function answerOf(side: TestFiles, line: string): string {
  try {
    return ['ok', ...side.obey(line.split(' '))].join(' ');
  } catch (error) {
    const { code, errno = 0 } = error as NodeJS.ErrnoException;
    // Node.js has no names for some errnos of network file systems.
    return `error ${errnoName(-errno) ?? code ?? 'unknown'}`;
  }
}

class TestFiles {
  private directory: ByteString = '';
  private readonly opened = new Map<number, string>();
  private readonly names = new Set<string>();

  /** Returns the words of the answer. @throws Error with a code, of the system or `invalid` */
  obey([verb, first = '', second = '', third = '']: readonly string[]): string[] {
    switch (verb) {
      case 'enter':
        return this.enter(unwrap(first));
      case 'create':
        return [String(this.open(first, O_RDWR | O_CREAT | O_EXCL))];
      case 'open':
        return [String(this.open(first, O_RDWR))];
      case 'lock':
        check(setLock(kindOf(second), this.fileOf(first), typeOf(third)));
        return [];
      case 'take':
        return [String(this.take(first, kindOf(second)))];
      case 'find':
        return [this.finds(this.fileOf(first), kindOf(second)) ? '1' : '0'];
      case 'close':
        this.close(this.fileOf(first));
        return [];
      case 'remove':
        unlinkSync(this.pathOf(first));
        return [];
      case 'clear':
        this.clear();
        return [];
      case 'die':
        process.kill(process.pid, 'SIGKILL');
        return [];
      default:
        throw invalid();
    }
  }

  /** @throws Error when a file cannot be removed */
  clear(): void {
    for (const file of this.opened.keys()) this.close(file);
    for (const file of this.names) {
      try {
        unlinkSync(this.pathOf(file));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
      this.names.delete(file);
    }
  }

  /** It is closed also with an error, as GlusterFS has for a file that is removed. */
  private close(file: number): void {
    posix.close(file);
    this.opened.delete(file);
  }

  private enter(directory: ByteString): string[] {
    const opened = openSync(toPath(directory), O_RDONLY | O_DIRECTORY);
    try {
      const { device, type, source, point, options } = mountDetails(descriptorInfo('self', opened).mount);
      this.directory = directory;
      const place: Place = {
        host: hostname(),
        boot: bootId(),
        device,
        type,
        source,
        point,
        options,
        network: networkOf(),
      };
      const { host, boot, network } = place;
      return [host, boot, device, type, source, point, options, network].map(wrap);
    } finally {
      closeSync(opened);
    }
  }

  private open(name: string, flags: number): number {
    const path = this.pathOf(name);
    const file = openSync(path, flags | O_NOFOLLOW, FILE_MODE);
    this.names.add(name);
    this.opened.set(file, name);
    return file;
  }

  private take(word: string, kind: LockKind): number {
    const file = this.fileOf(word);
    const path = `${this.directory}/${this.opened.get(file) ?? ''}`;
    return check(posix.lockNamed(file, false, path, kind === 'ofd'));
  }

  private finds(file: number, kind: LockKind): boolean {
    const found = new Int32Array(2);
    check(
      kind === 'ofd'
        ? posix.getOfdLock(file, LockType.WRITE, 0, 1, found)
        : posix.getlk(file, LockType.WRITE, 0, 1, found),
    );
    return found[0] !== LockType.UNLOCK;
  }

  private fileOf(word: string): number {
    const file = Number(word);
    if (!this.opened.has(file)) throw invalid();
    return file;
  }

  private pathOf(name: string): Buffer {
    if (this.directory === '' || !TEST_FILE.test(name)) throw invalid();
    return toPath(`${this.directory}/${name}`);
  }
}

/** The name of this process's network namespace, or empty. */
function networkOf(): string {
  try {
    return readlinkSync('/proc/self/ns/net');
  } catch {
    return '';
  }
}

/** Returns a result that is no error. @throws Error with its code */
function check(result: number): number {
  if (result >= 0) return result;
  throw Object.assign(new Error(), { code: errnoName(-result) });
}

function kindOf(word: string): LockKind {
  if (word === 'ofd' || word === 'posix') return word;
  throw invalid();
}

function typeOf(word: string): LockType {
  const type = { read: LockType.READ, write: LockType.WRITE, none: LockType.UNLOCK }[word];
  if (type === undefined) throw invalid();
  return type;
}

function invalid(): Error {
  return Object.assign(new Error('a request that is not understood'), { code: 'invalid' });
}
