/** A place for an ordinary user's daemon: directories of its own in place of the session's. */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Place, SpawnOptions } from './place.ts';
import { type Finished, Running } from './process.ts';

export class SessionPlace implements Place {
  readonly directory = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-lab-'));
  readonly configuration = join(this.directory, 'config/libvirt/virtlockd.conf');
  readonly sockets = join(this.directory, 'run/libvirt');
  readonly #started: Running[] = [];

  constructor() {
    // virtlockd refuses a runtime directory that others can enter.
    for (const name of ['run', 'config', 'cache', 'home']) mkdirSync(join(this.directory, name), { mode: 0o700 });
  }

  outside(inside: string): string {
    return inside;
  }

  write(inside: string, content: string | Uint8Array, mode = 0o644): void {
    mkdirSync(dirname(inside), { recursive: true });
    writeFileSync(inside, content, { mode });
  }

  spawn(program: string, args: readonly string[] = [], options: SpawnOptions = {}): Running {
    const env = {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      LC_ALL: 'C',
      HOME: join(this.directory, 'home'),
      XDG_RUNTIME_DIR: join(this.directory, 'run'),
      XDG_CONFIG_HOME: join(this.directory, 'config'),
      XDG_CACHE_HOME: join(this.directory, 'cache'),
      ...options.env,
    };
    const sink = options.output === undefined ? 'pipe' : openSync(options.output, 'a', 0o644);
    try {
      const input = options.input === undefined ? 'ignore' : 'pipe';
      const child = spawn(program, args, { env, cwd: '/', stdio: [input, sink, sink] });
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(options.input);
      child.on('error', () => undefined);
      const running = new Running(child, [program, ...args].join(' '), options.output);
      this.#started.push(running);
      return running;
    } finally {
      if (typeof sink === 'number') closeSync(sink);
    }
  }

  async run(program: string, args: readonly string[] = [], options: SpawnOptions = {}): Promise<Finished> {
    return this.spawn(program, args, options).exited;
  }

  async close(): Promise<void> {
    for (const running of this.#started) running.kill('SIGKILL');
    await Promise.all(this.#started.map(({ exited }) => exited));
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}
