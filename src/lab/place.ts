/** Where a daemon under check lives: a private root, or for an ordinary user directories of a session's own. */
import type { Finished, Running } from './process.ts';

export interface SpawnOptions {
  /** Added to a minimal environment (PATH, HOME, LC_ALL); nothing of this process's own environment gets in. */
  env?: Readonly<Record<string, string>>;
  /** Run as the place's ordinary user; default is root. Only in a private root. */
  ordinary?: boolean;
  /** A file (outside path) that standard output and error are appended to; default: they are collected. */
  output?: string;
  /** Written to standard input, which then ends. Default: no input. */
  input?: string;
}

export interface Place {
  /** A directory for files; the same path inside and outside. */
  readonly directory: string;
  /** The inside path of the daemon's configuration. */
  readonly configuration: string;
  /** The inside path of the directory where its sockets appear. */
  readonly sockets: string;
  /** The outside path of a path inside. */
  outside(inside: string): string;
  /** Writes a file inside, with its directory. */
  write(inside: string, content: string | Uint8Array, mode?: number): void;
  /** Starts a program inside. The pid is the program's own. */
  spawn(program: string, args?: readonly string[], options?: SpawnOptions): Running;
  /** Runs a program inside to its end. */
  run(program: string, args?: readonly string[], options?: SpawnOptions): Promise<Finished>;
  /** Ends every process inside and removes the directory. */
  close(): Promise<void>;
}
