/** A daemon that somebody else runs: reached by its sockets, never stopped. */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Skipped } from './check.ts';
import { play, type Playable } from './exchange/play.ts';
import type { Exchange } from './exchange/script.ts';
import type { Daemon } from './lab/daemon.ts';
import type { Attached } from './options.ts';
import type { Subject } from './subject.ts';

/**
 * The process that serves a socket, or undefined when that cannot be seen. A service manager may hold the socket too, so
 * process 1 counts last.
 */
function serverOf(socket: string): number | undefined {
  try {
    const path = realpathSync(socket);
    const row = readFileSync('/proc/net/unix', 'latin1')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .find((fields) => fields[7] === path || fields[7] === path.replace(/^\/run\//, '/var/run/'));
    const link = `socket:[${row?.[6] ?? ''}]`;
    const pids = readdirSync('/proc')
      .map(Number)
      .filter((pid) => pid > 0)
      .sort((a, b) => b - a);
    return pids.find((pid) => {
      try {
        return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === link);
      } catch {
        return false;
      }
    });
  } catch {
    return undefined;
  }
}

export class AttachedSubject implements Subject {
  readonly foreign = 'would leave something behind in a daemon that is not ours';
  readonly program = undefined;
  readonly place = undefined;
  readonly #daemon: Playable;
  readonly #directory: string;
  #count = 0;

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

  async play(exchange: Exchange, signal?: AbortSignal): Promise<string[]> {
    return play(this.#daemon, exchange, this.newDirectory(), signal);
  }

  kill(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    rmSync(this.#directory, { recursive: true, force: true });
    return Promise.resolve();
  }
}
