/** strace, which changes what a process's system calls do, or kills it as it enters one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { eventually } from './process.ts';

export class Killer {
  private readonly strace: ChildProcess;
  private readonly ended: Promise<unknown>;
  private output = '';

  private constructor(strace: ChildProcess) {
    this.strace = strace;
    this.ended = once(strace, 'close');
    strace.stderr?.on('data', (chunk: Buffer) => (this.output += chunk.toString('latin1')));
  }

  /** @param changes what becomes of each kind of call, as strace has it */
  static async at(pid: number, changes: Readonly<Record<string, string>>): Promise<Killer> {
    const injections = Object.entries(changes).map(([call, change]) => `--inject=${call}:${change}`);
    const words = ['-p', String(pid), `--trace=${Object.keys(changes).join()}`, ...injections];
    const killer = new Killer(spawn('strace', words, { stdio: ['ignore', 'ignore', 'pipe'] }));
    await eventually('strace is there', () => killer.output.includes('attached'));
    return killer;
  }

  /** Waits for a call that was changed. */
  async struck(): Promise<void> {
    await eventually('a call is changed', () => this.output.includes('(INJECTED)'));
  }

  /** Whether the process has died of it. */
  get hasKilled(): boolean {
    return this.output.includes('+++ killed by SIGKILL');
  }

  async letGo(): Promise<void> {
    if (this.strace.exitCode === null && this.strace.signalCode === null) this.strace.kill('SIGINT');
    await this.ended;
  }
}
