/** A place for an ordinary user's daemon, in directories of its own. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { makePlaceDirectory, minimalEnvironment, Place, removePlaceDirectory, type SpawnOptions } from './place.ts';
import { Running } from './process.ts';

export class SessionPlace extends Place {
  readonly directory = makePlaceDirectory(0o700);
  readonly configuration = join(this.directory, 'config/libvirt/virtlockd.conf');
  readonly sockets = join(this.directory, 'run/libvirt');
  readonly #started: Running[] = [];

  constructor() {
    super();
    // virtlockd refuses a runtime directory that others can enter.
    for (const name of ['run', 'config', 'cache', 'home']) mkdirSync(join(this.directory, name), { mode: 0o700 });
  }

  outside(inside: string): string {
    return inside;
  }

  spawn(program: string, args: readonly string[] = [], options: SpawnOptions = {}): Running {
    const env = {
      ...minimalEnvironment,
      HOME: join(this.directory, 'home'),
      XDG_RUNTIME_DIR: join(this.directory, 'run'),
      XDG_CONFIG_HOME: join(this.directory, 'config'),
      XDG_CACHE_HOME: join(this.directory, 'cache'),
      ...options.env,
    };
    const running = Running.start([program, ...args], { env, cwd: '/' }, options);
    this.#started.push(running);
    return running;
  }

  async close(): Promise<void> {
    for (const running of this.#started) running.kill('SIGKILL');
    await Promise.all(this.#started.map(({ exited }) => exited));
    removePlaceDirectory(this.directory);
  }
}
