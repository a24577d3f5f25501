/** A private root for real daemons: a mount namespace in which libvirt's fixed paths belong to one test alone. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, closeSync, realpathSync, rmSync, writeFileSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Finished, Running } from './process.ts';
import { type Generation, treeOf } from './requirements.ts';

const here = dirname(fileURLToPath(import.meta.url));

/** The checkout's directory; visible at the same path in every lab. */
export const checkout = realpathSync(join(here, '../..'));

/** The ordinary user that every lab knows, for session mode. */
export const ordinaryUser = {
  uid: 47110,
  gid: 47110,
  name: 'labuser',
  home: '/run/labuser',
  runtime: '/run/labuser/runtime',
};

export interface SpawnOptions {
  /** Added to a minimal environment (PATH, HOME, LC_ALL); nothing of the test's own environment gets in. */
  env?: Readonly<Record<string, string>>;
  /** Run as the lab's ordinary user; default is root. */
  ordinary?: boolean;
  /** A file (outside path) that standard output and error are appended to; default: they are collected. */
  output?: string;
  /** Written to standard input, which then ends. Default: no input. */
  input?: string;
}

export class Lab {
  /** Where the lab's files are; the same path inside and outside, readable by everybody. */
  readonly directory: string;
  readonly generation: Generation;
  readonly #holder: ChildProcess;
  readonly #pid: number;

  private constructor(directory: string, generation: Generation, holder: ChildProcess, pid: number) {
    this.directory = directory;
    this.generation = generation;
    this.#holder = holder;
    this.#pid = pid;
  }

  /**
   * Opens a lab whose root is that generation's tree, or for 9.0.0 this machine itself.
   * @param share more directories to be the same inside and outside, such as what two hosts would share
   * @param tree another tree with libvirt of that generation
   * @throws Error with what mount said, when the root cannot be made.
   */
  static async open(
    generation: Generation = '9.0.0',
    share: readonly string[] = [],
    tree = treeOf(generation),
  ): Promise<Lab> {
    const directory = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-lab-'));
    chmodSync(directory, 0o755);
    const shared = new Set([directory, checkout, realpathSync(join(checkout, 'node_modules')), ...share]);
    const script = join(here, 'root.sh');
    const root = ['--mount', '--propagation', 'private', script, tree, ...shared];
    const holder = spawn('unshare', root, { stdio: ['pipe', 'pipe', 'pipe'] });
    let complaint = '';
    holder.stderr.on('data', (data: Buffer) => (complaint += data.toString()));
    const ready = await Promise.race([
      once(holder.stdout, 'data').then(() => true),
      once(holder, 'close').then(() => false),
    ]);
    if (!ready || holder.pid === undefined) {
      rmSync(directory, { recursive: true, force: true });
      throw new Error(`no lab for ${generation}: ${complaint.trim()}`);
    }
    holder.stdin.on('error', () => undefined);
    return new Lab(directory, generation, holder, holder.pid);
  }

  /** The outside path of a path inside the lab. */
  outside(inside: string): string {
    return `/proc/${this.#pid}/root${inside}`;
  }

  /** Writes a file inside the lab, with its directory. */
  write(inside: string, content: string | Uint8Array, mode = 0o644): void {
    const path = this.outside(inside);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content, { mode });
  }

  /** Starts a program inside the lab. The pid is the program's own: everything before it ends in exec. */
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
    const enter = ['--target', target, '--mount', '--root', '--wd', '--', ...become, program, ...args];
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

  /** Runs a program inside the lab to its end. */
  async run(program: string, args: readonly string[] = [], options: SpawnOptions = {}): Promise<Finished> {
    return this.spawn(program, args, options).exited;
  }

  /** Ends every process in the lab and removes its directory. */
  async close(): Promise<void> {
    const closed = this.#holder.exitCode !== null ? undefined : once(this.#holder, 'exit');
    this.#holder.stdin?.end();
    await closed;
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}
