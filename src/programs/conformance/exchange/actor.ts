/** The other processes of an exchange; see actor.py. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type Interface, createInterface } from 'node:readline';
import { installRoot } from '../../../posix/root.ts';

const script = join(installRoot, 'src/programs/conformance/exchange/actor.py');

export interface Received {
  readonly bytes: Buffer;
  readonly closed: boolean;
}

export class Actor {
  readonly pid: number;
  /** How the process ended: a signal's name, or `exit N`. */
  readonly ended: Promise<string>;
  gone = false;
  readonly #child: ChildProcess;
  readonly #answers: Interface;

  private constructor(child: ChildProcess, pid: number, answers: Interface) {
    this.#child = child;
    this.pid = pid;
    this.#answers = answers;
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.gone = true;
        resolve(signal ?? `exit ${code ?? '?'}`);
      });
    });
  }

  static start(): Actor {
    // By its own path: a python3 on PATH may be a shell script, whose pid is not the one that connects.
    const child = spawn('/usr/bin/python3', ['-S', '-E', script], { stdio: ['pipe', 'pipe', 'inherit'] });
    if (child.pid === undefined) throw new Error('cannot start /usr/bin/python3');
    child.stdin.on('error', () => undefined);
    return new Actor(child, child.pid, createInterface({ input: child.stdout }));
  }

  async open(name: string, path: string): Promise<void> {
    await this.#order({ do: 'open', name, path });
  }

  async send(name: string, bytes: Uint8Array, descriptors = 0): Promise<void> {
    await this.#order({ do: 'send', name, hex: Buffer.from(bytes).toString('hex'), descriptors });
  }

  /** The bytes since the last call; does not wait. */
  async receive(name: string): Promise<Received> {
    const { hex, closed } = (await this.#order({ do: 'receive', name })) as { hex?: string; closed?: boolean };
    // A connection that ended with its process has no bytes and no end to report.
    return { bytes: Buffer.from(hex ?? '', 'hex'), closed: closed ?? false };
  }

  async halfClose(name: string): Promise<void> {
    await this.#order({ do: 'half', name });
  }

  async close(name: string): Promise<void> {
    await this.#order({ do: 'close', name });
  }

  /** Takes a POSIX lock. `length` 0 reaches to the end. */
  async lock(path: string, exclusive: boolean, start: number, length: number): Promise<void> {
    await this.#order({ do: 'lock', path, exclusive, start, length });
  }

  async unlock(path: string): Promise<void> {
    await this.#order({ do: 'unlock', path });
  }

  async ignoreTerm(): Promise<void> {
    await this.#order({ do: 'ignore' });
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async stop(): Promise<void> {
    this.#child.stdin?.end();
    this.kill('SIGKILL');
    await this.ended;
  }

  /** The answer is empty when the actor ends first, because the daemon has killed it. */
  async #order(order: Record<string, unknown>): Promise<unknown> {
    if (this.gone) return {};
    const answer = once(this.#answers, 'line') as Promise<[string]>;
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
    const line = await Promise.race([answer, this.ended.then(() => undefined)]);
    return line === undefined ? {} : JSON.parse(line[0]);
  }
}
