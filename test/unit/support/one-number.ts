/** A mounted file system all of whose files have one inode number: see one-number.py. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { temporaryDirectory } from './locks.ts';

export class OneNumber {
  readonly path: string;
  readonly inode = 7;
  private readonly server: ChildProcess;
  private readonly remove: () => void;

  private constructor(server: ChildProcess, { path, remove }: ReturnType<typeof temporaryDirectory>) {
    this.server = server;
    this.path = path;
    this.remove = remove;
  }

  /** @param otherwise the file system is another one: see one-number.py */
  static async mount(...otherwise: ['unlinks' | 'no-links'] | []): Promise<OneNumber> {
    const directory = temporaryDirectory();
    const script = path.join(import.meta.dirname, 'one-number.py');
    const server = spawn('python3', [script, directory.path, ...otherwise], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(server.stdout, 'data');
    return new OneNumber(server, directory);
  }

  async end(): Promise<void> {
    // With its pipe, so that no descriptor is left.
    const gone = once(this.server, 'close');
    // Nothing hangs on it then, not even of a test that has failed.
    this.server.kill();
    await gone;
    execFileSync('umount', ['--lazy', this.path]);
    this.remove();
  }
}
