/** The other end of a {@link serveSide}: asks it, and gives it up when it does not answer. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import type { ByteString } from '../../../../xdr/codec.ts';
import type { LockKind } from '../../../posix/record-lock.ts';
import { printError } from '../output.ts';
import { GREETING, type Place, TakenState, unwrap, wrap } from './protocol.ts';

/** How long a command may take until its side greets, in milliseconds: ssh may ask for a password. */
const GREETING_MS = 60_000;
/** How long a side may take to remove its files and end, in milliseconds, before nobody waits for it any longer. */
const END_MS = 3000;
/** What a side could not do, by the verb of the request. */
const DEEDS: Readonly<Record<string, string>> = {
  enter: 'open the directory',
  create: 'create a file',
  open: 'open a file',
  remove: 'remove a file',
  clear: 'remove its files',
};
/** What file systems say of an open file, or of a name, whose file was removed on another host. */
export const GONE: ReadonlySet<string> = new Set(['ENOENT', 'ESTALE']);
/** What a side cannot get because of another's lock. */
const BUSY: ReadonlySet<string> = new Set(['EAGAIN', 'EACCES']);

/** A side has not answered, or has ended: no more can be found out. */
export class SideLost extends Error {
  /** It has not answered in time. */
  readonly isLate: boolean;

  constructor(message: string, isLate: boolean) {
    super(message);
    this.isLate = isLate;
  }
}

/** A side could not do what it was asked, for a reason that is no other lock. */
export class SideFailure extends Error {
  /** The system's code. */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export class Side {
  /** For people. */
  readonly label: string;
  readonly place: Place;
  private readonly link: Link;

  private constructor(label: string, link: Link, place: Place) {
    this.label = label;
    this.link = link;
    this.place = place;
  }

  /**
   * @param command and its arguments @param limit for an answer, in milliseconds
   * @throws SideLost @throws SideFailure when the directory cannot be opened
   */
  static async start(label: string, command: readonly string[], directory: ByteString, limit: number): Promise<Side> {
    const link = new Link(label, command, limit);
    try {
      await link.greeting();
      const [host = '', boot = '', device = '', type = '', source = '', point = '', options = '', network = ''] = (
        await link.ask(`enter ${wrap(directory)}`)
      ).map(unwrap);
      return new Side(label, link, { host, boot, device, type, source, point, options, network });
    } catch (error) {
      await link.end();
      throw error;
    }
  }

  async create(name: string): Promise<TestFile> {
    const [file = ''] = await this.link.ask(`create ${name}`);
    return new TestFile(this.link, file);
  }

  async open(name: string): Promise<TestFile> {
    const [file = ''] = await this.link.ask(`open ${name}`);
    return new TestFile(this.link, file);
  }

  async remove(name: string): Promise<void> {
    await this.link.ask(`remove ${name}`);
  }

  /** Closes and removes every file that it has made or opened. */
  async clear(): Promise<void> {
    await this.link.ask('clear');
  }

  /** Kills its process. @throws SideLost when that does not end */
  async die(): Promise<void> {
    await this.link.kill();
  }

  /** Has it remove its files. Returns whether it has ended in time. */
  async end(): Promise<boolean> {
    return this.link.end();
  }
}

/** An open file of a side. Its methods throw SideLost and SideFailure. */
export class TestFile {
  private readonly link: Link;
  private readonly number: string;

  constructor(link: Link, number: string) {
    this.link = link;
    this.number = number;
  }

  /** Whether the lock was granted: false where another lock is in the way. */
  async lock(kind: LockKind, type: 'read' | 'write'): Promise<boolean> {
    return this.granted(`lock ${this.number} ${kind} ${type}`);
  }

  async unlock(kind: LockKind): Promise<void> {
    await this.link.ask(`lock ${this.number} ${kind} none`);
  }

  /** Locks it exclusively as the daemon does, which looks at its name. */
  async take(kind: LockKind): Promise<TakenState> {
    try {
      const [state] = await this.link.ask(`take ${this.number} ${kind}`);
      return (
        ([TakenState.HELD, TakenState.RENAMED] as const).find((one) => one === Number(state)) ?? TakenState.UNLINKED
      );
    } catch (error) {
      if (!(error instanceof SideFailure)) throw error;
      if (BUSY.has(error.code)) return TakenState.BUSY;
      if (GONE.has(error.code)) return TakenState.RENAMED;
      throw error;
    }
  }

  /** Whether the kernel reports a lock that is in the way of an exclusive one. */
  async seesLock(kind: LockKind): Promise<boolean> {
    const [found] = await this.link.ask(`find ${this.number} ${kind}`);
    return found === '1';
  }

  async close(): Promise<void> {
    await this.link.ask(`close ${this.number}`);
  }

  private async granted(request: string): Promise<boolean> {
    try {
      await this.link.ask(request);
      return true;
    } catch (error) {
      if (error instanceof SideFailure && BUSY.has(error.code)) return false;
      throw error;
    }
  }
}

/** A child process, and the lines that it has written. */
class Link {
  private readonly label: string;
  private readonly limit: number;
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly lines: AsyncIterator<string>;
  private readonly ended: Promise<unknown>;

  constructor(label: string, [program = '', ...args]: readonly string[], limit: number) {
    this.label = label;
    this.limit = limit;
    this.child = spawn(program, args);
    // Not inherited: whoever reads this process's standard error would wait for a side that is left behind.
    this.child.stderr.on('data', (text: Buffer) => {
      printError(text.toString());
    });
    // An error is seen as the end of its output.
    this.child.stdin.on('error', () => undefined);
    this.child.on('error', () => undefined);
    this.ended = once(this.child, 'close').catch(() => undefined);
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  /** What a login shell prints before is skipped. */
  async greeting(): Promise<void> {
    const until = performance.now() + GREETING_MS;
    while ((await this.line(until - performance.now())) !== GREETING);
  }

  /** Returns the words of the answer. */
  async ask(request: string): Promise<string[]> {
    this.child.stdin.write(`${request}\n`);
    const [state, ...words] = (await this.line(this.limit)).split(' ');
    if (state === 'ok') return words;
    // The peer is another host's, and its words may be printed.
    const code = words.find((word) => /^\w+$/.test(word)) ?? 'unknown';
    const [verb = ''] = request.split(' ');
    throw new SideFailure(code, `${this.label} cannot ${DEEDS[verb] ?? 'lock a file'}: ${code}`);
  }

  async kill(): Promise<void> {
    this.child.stdin.write('die\n');
    if (!(await this.endsWithin(this.limit))) throw this.noAnswer(this.limit);
  }

  /** Ends its input. One that hangs removes its files when its storage answers. */
  async end(): Promise<boolean> {
    this.child.stdin.end();
    if (await this.endsWithin(END_MS)) return true;
    for (const stream of [this.child.stdout, this.child.stderr]) stream.destroy();
    this.child.unref();
    return false;
  }

  private async endsWithin(milliseconds: number): Promise<boolean> {
    const timer = new AbortController();
    const late = pause(milliseconds, false, { signal: timer.signal }).catch(() => false);
    const isEnded = await Promise.race([this.ended.then(() => true), late]);
    timer.abort();
    return isEnded;
  }

  private async line(milliseconds: number): Promise<string> {
    const timer = new AbortController();
    const late = pause(Math.max(milliseconds, 0), null, { signal: timer.signal }).catch(() => null);
    const next = await Promise.race([this.lines.next(), late]);
    timer.abort();
    if (next === null) throw this.noAnswer(milliseconds);
    if (next.done === true) throw new SideLost(`the process of ${this.label} has ended${await this.status()}`, false);
    return next.value;
  }

  private async status(): Promise<string> {
    await this.endsWithin(END_MS);
    const { exitCode, signalCode } = this.child;
    if (exitCode !== null) return ` with status ${exitCode}`;
    return signalCode === null ? '' : ` by ${signalCode}`;
  }

  private noAnswer(milliseconds: number): SideLost {
    return new SideLost(`${this.label} does not answer within ${Math.round(milliseconds / 1000)} s`, true);
  }
}
