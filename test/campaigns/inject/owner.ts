/** A process that owns locks and reports every signal; see owner.py. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Call, decode, decodeError, encode, type WireError } from '../../../src/lab/wire.ts';

const script = join(import.meta.dirname, 'owner.py');

export class OwnerProcess {
  readonly pid: number;
  /** Signals that reached it, in order. */
  readonly signals: number[] = [];
  /** How it ended: a signal's name, or `exit N`; undefined while it lives. */
  end: string | undefined;
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  #answered: ((line: string) => void) | undefined;
  #serial = 0;

  private constructor(child: ChildProcess, pid: number) {
    this.#child = child;
    this.pid = pid;
    this.ended = once(child, 'exit').then(([code, signal]) => {
      this.end = (signal as string | null) ?? `exit ${String(code)}`;
      this.#answer('closed');
      return this.end;
    });
    if (child.stdout === null) throw new Error('no output');
    createInterface({ input: child.stdout }).on('line', (line) => {
      const number = /^signal (\d+)$/.exec(line)?.[1];
      if (number === undefined) this.#answer(line);
      else this.signals.push(Number(number));
    });
  }

  static async start(): Promise<OwnerProcess> {
    // By its own path: a shim on PATH may be a shell script, and the pid would not be the one that connects.
    const child = spawn('/usr/bin/python3', ['-S', '-E', script], { stdio: ['pipe', 'pipe', 'inherit'] });
    if (child.pid === undefined) throw new Error('cannot start /usr/bin/python3');
    child.stdin.on('error', () => undefined);
    const owner = new OwnerProcess(child, child.pid);
    await owner.#next();
    return owner;
  }

  /** Whether it can do nothing any more, as the kernel has it now. */
  get isDead(): boolean {
    try {
      return /\) [ZX] /.test(readFileSync(`/proc/${this.pid}/stat`, 'latin1'));
    } catch {
      return true;
    }
  }

  async connect(path: string): Promise<void> {
    await this.#order(`connect ${path}`);
  }

  /** The error that the daemon answers, undefined for success. @throws Error when the connection, or the process, has ended */
  async ask(call: Call): Promise<WireError | undefined> {
    const serial = ++this.#serial;
    const [kind, hex = ''] = (await this.#order(`call ${encode({ ...call, serial }).toString('hex')}`)).split(' ');
    if (kind !== 'reply') throw new Error('the connection was closed instead of a reply');
    const reply = decode(Buffer.from(hex, 'hex'));
    if (reply.serial !== serial) throw new Error(`the reply has serial ${reply.serial}, not ${serial}`);
    return reply.status === 0 ? undefined : decodeError(reply.payload);
  }

  /** @throws Error with the daemon's message when it refuses */
  async must(call: Call): Promise<void> {
    const error = await this.ask(call);
    if (error !== undefined) throw new Error(`the daemon refused: ${error.message ?? 'no message'}`);
  }

  async close(): Promise<void> {
    await this.#order('close');
  }

  async stop(): Promise<void> {
    this.#child.stdin?.end();
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  async #order(line: string): Promise<string> {
    if (this.end !== undefined) return 'closed';
    const answer = this.#next();
    this.#child.stdin?.write(`${line}\n`);
    return answer;
  }

  async #next(): Promise<string> {
    return new Promise((resolve) => (this.#answered = resolve));
  }

  #answer(line: string): void {
    this.#answered?.(line);
    this.#answered = undefined;
  }
}
