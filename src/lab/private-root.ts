/** A private root for real daemons: a mount and a network namespace in which libvirt's fixed paths belong to one run alone. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, closeSync, realpathSync, rmSync, writeFileSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { installRoot } from '../posix/root.ts';
import type { Place, SpawnOptions } from './place.ts';
import { type Finished, Running } from './process.ts';

/** The ordinary user that every private root knows, for session mode. */
export const ordinaryUser = {
  uid: 47110,
  gid: 47110,
  name: 'labuser',
  home: '/run/labuser',
  runtime: '/run/labuser/runtime',
};

export interface RootOptions {
  /** The directory that becomes `/`; default: this machine's own. */
  readonly tree?: string;
  /** More directories that are the same inside and outside. */
  readonly share?: readonly string[];
  /** Without a network but its own loopback, which is down. */
  readonly offline?: boolean;
}

/** What holds a private root open; made by `makeRoot`. */
export interface Holder {
  readonly directory: string;
  readonly process: ChildProcess;
  readonly pid: number;
}

/** @throws Error with what mount said, when the root cannot be made. */
export async function makeRoot({ tree = '/', share = [], offline = false }: RootOptions = {}): Promise<Holder> {
  const directory = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-lab-'));
  chmodSync(directory, 0o755);
  const shared = new Set([directory, ...share]);
  const script = join(installRoot, 'src/lab/root.sh');
  const namespaces = ['--mount', '--propagation', 'private', ...(offline ? ['--net'] : [])];
  const holder = spawn('unshare', [...namespaces, '/bin/sh', script, tree, ...shared], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let complaint = '';
  holder.stderr.on('data', (data: Buffer) => (complaint += data.toString()));
  holder.on('error', (error) => (complaint += error.message));
  const ready = await Promise.race([
    once(holder.stdout, 'data').then(() => true),
    once(holder, 'close').then(() => false),
  ]);
  if (!ready || holder.pid === undefined) {
    rmSync(directory, { recursive: true, force: true });
    throw new Error(`no private root over ${tree}: ${complaint.trim()}`);
  }
  holder.stdin.on('error', () => undefined);
  return { directory, process: holder, pid: holder.pid };
}

export class PrivateRoot implements Place {
  /** Where its files are; the same path inside and outside, readable by everybody. */
  readonly directory: string;
  readonly configuration = '/etc/libvirt/virtlockd.conf';
  readonly sockets = '/run/libvirt';
  readonly #holder: ChildProcess;
  readonly #pid: number;

  constructor({ directory, process: holder, pid }: Holder) {
    this.directory = directory;
    this.#holder = holder;
    this.#pid = pid;
  }

  /** The outside path of a path inside the root. */
  outside(inside: string): string {
    return `/proc/${this.#pid}/root${inside}`;
  }

  /** Writes a file inside the root, with its directory. */
  write(inside: string, content: string | Uint8Array, mode = 0o644): void {
    const path = this.outside(inside);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content, { mode });
  }

  /** Starts a program inside the root. The pid is the program's own: everything before it ends in exec. */
  spawn(program: string, args: readonly string[] = [], options: SpawnOptions = {}): Running {
    const user = options.ordinary === true ? ordinaryUser : undefined;
    const become =
      user === undefined
        ? []
        : ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups', '--no-new-privs'];
    const env: Record<string, string> = {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      LC_ALL: 'C',
      HOME: user?.home ?? '/root',
      ...(user === undefined ? {} : { XDG_RUNTIME_DIR: user.runtime, USER: user.name, LOGNAME: user.name }),
      ...options.env,
    };
    const target = String(this.#pid);
    const enter = ['--target', target, '--mount', '--net', '--root', '--wd', '--', ...become, program, ...args];
    const output = options.output === undefined ? undefined : openSync(options.output, 'a', 0o644);
    try {
      const sink = output ?? 'pipe';
      const child = spawn('nsenter', enter, {
        env,
        stdio: [options.input === undefined ? 'ignore' : 'pipe', sink, sink],
      });
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(options.input);
      return new Running(child, [program, ...args].join(' '), options.output);
    } finally {
      if (output !== undefined) closeSync(output);
    }
  }

  /** Runs a program inside the root to its end. */
  async run(program: string, args: readonly string[] = [], options: SpawnOptions = {}): Promise<Finished> {
    return this.spawn(program, args, options).exited;
  }

  /** Ends every process in the root and removes its directory. */
  async close(): Promise<void> {
    const closed = this.#holder.exitCode !== null ? undefined : once(this.#holder, 'exit');
    this.#holder.stdin?.end();
    await closed;
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}
