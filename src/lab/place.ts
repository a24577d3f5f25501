/** A place where daemons run: a private root, or an ordinary user's own session directories. */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PROGRAM } from '../libvirt/paths.ts';
import type { Finished, Running, Streams } from './process.ts';

export interface SpawnOptions extends Streams {
  /** Added to a minimal environment (PATH, HOME, LC_ALL), which has nothing of this process's own. */
  env?: Readonly<Record<string, string>> | undefined;
  /** Run as the ordinary user of a private root; default: as root. */
  ordinary?: boolean | undefined;
}

export const minimalEnvironment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C',
} as const;

export function makePlaceDirectory(mode: number): string {
  const directory = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-lab-'));
  chmodSync(directory, mode);
  return directory;
}

export function removePlaceDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
}

export abstract class Place {
  /** A directory for files; the same path inside and outside. */
  abstract readonly directory: string;
  /** The inside path of the daemon's configuration. */
  abstract readonly configuration: string;
  /** The inside path of the directory of its sockets. */
  abstract readonly sockets: string;

  /** The outside path of a path inside. */
  abstract outside(inside: string): string;

  /** Starts a program inside. The pid is the program's own. */
  abstract spawn(program: string, args?: readonly string[], options?: SpawnOptions): Running;

  /** Ends every process inside and removes the directory. */
  abstract close(): Promise<void>;

  /** Writes a file inside, with its directory. */
  write(inside: string, content: string | Uint8Array, mode = 0o644): void {
    const path = this.outside(inside);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content, { mode });
  }

  /**
   * Puts a program at a path inside in one step, as an upgrade or a swap does while the old one runs. The path becomes a link,
   * because bin/virtlockd finds its parts beside itself.
   */
  install(program: string, at = PROGRAM): void {
    const path = this.outside(at);
    mkdirSync(dirname(path), { recursive: true });
    symlinkSync(program, `${path}.new`);
    renameSync(`${path}.new`, path);
  }

  /** Runs a program inside to its end. */
  async run(program: string, args?: readonly string[], options?: SpawnOptions): Promise<Finished> {
    return this.spawn(program, args, options).exited;
  }
}
