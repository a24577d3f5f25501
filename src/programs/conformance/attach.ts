/** A daemon that runs already: reached by its sockets, never stopped. */
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { socketsOf } from '../../proc/descriptors.ts';
import { processes } from '../../proc/processes.ts';
import { listeningSockets } from '../../proc/sockets.ts';
import { Skipped } from './check.ts';
import { play, type Playable, type PlayOptions } from './exchange/play.ts';
import type { Exchange } from './exchange/script.ts';
import type { Daemon } from '../../lab/daemon.ts';
import type { Attached } from './options.ts';
import type { Subject } from './subject.ts';

function isSameFile(one: string, other: string): boolean {
  const a = statSync(one, { throwIfNoEntry: false });
  const b = statSync(other, { throwIfNoEntry: false });
  return a !== undefined && b?.ino === a.ino && b.dev === a.dev;
}

/**
 * The process that serves a socket, or undefined when /proc does not show it. A service manager may hold the socket too, so
 * process 1 counts last. A process in another root has bound another path, so the files are compared.
 */
function serverOf(socket: string): number | undefined {
  const within = /^\/proc\/(\d+)\/root\//.exec(socket)?.[1];
  const pids = processes().sort((a, b) => b - a);
  try {
    const name = basename(socket);
    const candidates = listeningSockets(within === undefined ? 'self' : Number(within)).filter(
      ({ path }) => basename(path) === name,
    );
    return pids.find((pid) => {
      try {
        const own = socketsOf(pid);
        return candidates.some(({ path, inode }) => own.has(inode) && isSameFile(`/proc/${pid}/root${path}`, socket));
      } catch {
        // The process has ended, or belongs to another user.
        return false;
      }
    });
  } catch {
    return undefined;
  }
}

export class AttachedSubject implements Subject {
  readonly foreign = 'would change a daemon that others use';
  readonly program = undefined;
  readonly place = undefined;
  readonly #daemon: Playable;
  readonly #directory: string;
  #count = 0;

  get blind(): boolean {
    return this.#daemon.pid === undefined;
  }

  constructor({ socket, adminSocket }: Attached, parent = tmpdir()) {
    const never = new Promise<never>(() => undefined);
    this.#daemon = { pid: serverOf(socket), socket, adminSocket, finished: undefined, exited: never };
    this.#directory = mkdtempSync(join(realpathSync(parent), 'virtlockd-conformance-'));
    chmodSync(this.#directory, 0o755);
  }

  daemon(): Promise<Playable> {
    return Promise.resolve(this.#daemon);
  }

  start(): Promise<Daemon> {
    return Promise.reject(new Skipped('needs a daemon of its own'));
  }

  newDirectory(): string {
    const dir = join(this.#directory, `e${++this.#count}`);
    mkdirSync(dir, { mode: 0o755 });
    return dir;
  }

  async play(exchange: Exchange, options?: PlayOptions): Promise<string[]> {
    return play(this.#daemon, exchange, this.newDirectory(), options);
  }

  kill(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    rmSync(this.#directory, { recursive: true, force: true });
    return Promise.resolve();
  }
}
