/**
 * Command lines of processes. A process that waits for storage in mmap or munmap keeps everybody waiting who reads its command line: ps,
 * and the daemon if it did so itself. So a child reads them, which has a time limit.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { runChild, SpawnError } from '../posix/child.ts';

type Words = readonly ByteString[];
type Done = (words: Words) => void;

/** Processes that one child reads, how long it may take in milliseconds, and the most bytes that are read of them. */
const BATCH = 64;
const LIMIT_MS = 500;
const MAX_OUTPUT = 4 * 1024 * 1024;
/** How many children may hang in a row before the processes that are left count as unreadable. */
const MAX_HANGS = 4;
/** For how long an answer holds, in milliseconds: refused clients repeat their calls, and a pid may be another process's later. */
const KEPT_MS = 1000;

export class CommandLines {
  private readonly readFiles: (pids: readonly number[]) => Promise<Answers>;
  private readonly wanted = new Map<number, Done[]>();
  private readonly known = new Map<number, Words>();
  private isReading = false;

  constructor(readFiles = readCommandLines) {
    this.readFiles = readFiles;
  }

  /** Calls back, later, with the words of the process's command line; with none when it cannot be read in time. */
  read(pid: number, done: Done): void {
    const others = this.wanted.get(pid);
    if (others === undefined) this.wanted.set(pid, [done]);
    else others.push(done);
    if (!this.isReading) void this.readWanted();
  }

  private async readWanted(): Promise<void> {
    this.isReading = true;
    await Promise.resolve();
    for (let hangs = 0; this.wanted.size > 0;) {
      for (const [pid, words] of this.known) this.answer(pid, words);
      const pids = [...this.wanted.keys()].slice(0, BATCH);
      if (pids.length === 0) break;
      const { words, hangsAt } = hangs < MAX_HANGS ? await this.readFiles(pids) : NOTHING;
      if (hangsAt !== undefined) hangs++;
      // Those behind the one that hangs are read again.
      for (const pid of pids.slice(0, hangsAt === undefined ? BATCH : hangsAt + 1)) {
        const found = words.get(pid) ?? [];
        this.known.set(pid, found);
        this.answer(pid, found);
      }
    }
    this.isReading = false;
    setTimeout(() => {
      this.known.clear();
    }, KEPT_MS).unref();
  }

  private answer(pid: number, words: Words): void {
    const waiting = this.wanted.get(pid) ?? [];
    this.wanted.delete(pid);
    for (const done of waiting) done(words);
  }
}

interface Answers {
  readonly words: ReadonlyMap<number, Words>;
  /** The place of the process whose command line was waited for in vain, or of one just before it that has none. */
  readonly hangsAt: number | undefined;
}

const NOTHING: Answers = { words: new Map(), hangsAt: undefined };

async function readCommandLines(pids: readonly number[]): Promise<Answers> {
  // Prints a file's name before each word: no word can pass for a name.
  const args = ['-azZHs', '--line-buffered', '', ...pids.map((pid) => `/proc/${pid}/cmdline`)];
  try {
    const program = { file: 'grep', args, directory: '/', limit: LIMIT_MS, outputMax: MAX_OUTPUT };
    const { status, output } = await runChild(program);
    const words = parseWords(output);
    return { words, hangsAt: status === null ? pids.findLastIndex((pid) => words.has(pid)) + 1 : undefined };
  } catch (error) {
    if (error instanceof SpawnError) return NOTHING;
    throw error;
  }
}

function parseWords(output: ByteString): Map<number, ByteString[]> {
  const found = new Map<number, ByteString[]>();
  const parts = output.split('\0');
  for (let index = 0; index + 1 < parts.length; index += 2) {
    const pid = Number(/^\/proc\/(\d+)\/cmdline$/.exec(parts[index] ?? '')?.[1]);
    const words = found.get(pid);
    if (words === undefined) found.set(pid, [parts[index + 1] ?? '']);
    else words.push(parts[index + 1] ?? '');
  }
  return found;
}
