/** A private root for real daemons: a namespace in which one run owns libvirt's fixed paths. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { installRoot } from '../posix/root.ts';
import { makePlaceDirectory, minimalEnvironment, Place, removePlaceDirectory, type SpawnOptions } from './place.ts';
import { Running } from './process.ts';

/** The ordinary user that every private root knows, for session mode. */
export const ordinaryUser = {
  uid: 47110,
  gid: 47110,
  name: 'labuser',
  home: '/run/labuser',
  runtime: '/run/labuser/runtime',
  /** Of a session daemon, as `Place` has them for root's. */
  configuration: '/run/labuser/.config/libvirt/virtlockd.conf',
  sockets: '/run/labuser/runtime/libvirt',
};

export interface RootOptions {
  /** The directory that becomes `/`; default: this machine's own. */
  readonly tree?: string;
  /** More directories to share between inside and outside. */
  readonly share?: readonly string[];
  /** Without a network but its own loopback, which is down. */
  readonly offline?: boolean;
  /** Another host: its name. Guests can be migrated between hosts with different names. */
  readonly hostname?: string;
}

export class Lab extends Place {
  readonly directory: string;
  readonly configuration = '/etc/libvirt/virtlockd.conf';
  readonly sockets = '/run/libvirt';
  /** Holds the namespaces open until its standard input ends. */
  readonly #holder: ChildProcess;
  readonly #pid: number;

  private constructor(directory: string, holder: ChildProcess, pid: number) {
    super();
    this.directory = directory;
    this.#holder = holder;
    this.#pid = pid;
  }

  /** @throws Error with what mount said, when the root cannot be made. */
  static async open({ tree = '/', share = [], offline = false, hostname }: RootOptions = {}): Promise<Lab> {
    const directory = makePlaceDirectory(0o755);
    const shared = new Set([directory, ...share]);
    const script = join(installRoot, 'src/lab/root.sh');
    const namespaces = ['--mount', '--propagation', 'private', ...(offline ? ['--net'] : []), '--uts'];
    const holder = spawn('unshare', [...namespaces, '/bin/sh', script, tree, ...shared], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    // Without free descriptors or processes it has no streams, despite the type, and emits `error`.
    if ((holder as Partial<typeof holder>).stderr === undefined) {
      const [error] = (await once(holder, 'error')) as [Error];
      removePlaceDirectory(directory);
      throw new Error(`no private root over ${tree}: ${error.message}`);
    }
    let complaint = '';
    holder.stderr.on('data', (data: Buffer) => (complaint += data.toString()));
    holder.on('error', (error) => (complaint += error.message));
    const ready = await Promise.race([
      once(holder.stdout, 'data').then(() => true),
      once(holder, 'close').then(() => false),
    ]);
    if (!ready || holder.pid === undefined) {
      removePlaceDirectory(directory);
      throw new Error(`no private root over ${tree}: ${complaint.trim()}`);
    }
    holder.stdin.on('error', () => undefined);
    const lab = new Lab(directory, holder, holder.pid);
    if (hostname !== undefined) await lab.run('hostname', [hostname]);
    return lab;
  }

  outside(inside: string): string {
    return `/proc/${this.#pid}/root${inside}`;
  }

  /** The process that keeps its namespaces. */
  get holder(): number {
    return this.#pid;
  }

  /** The words before a command that is to run inside. */
  get enter(): readonly string[] {
    return ['nsenter', '--target', String(this.#pid), '--mount', '--net', '--uts', '--root', '--wd', '--'];
  }

  /** nsenter and setpriv end in exec, so the pid is the program's. */
  spawn(program: string, args: readonly string[] = [], options: SpawnOptions = {}): Running {
    const user = options.ordinary === true ? ordinaryUser : undefined;
    const become =
      user === undefined
        ? []
        : ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups', '--no-new-privs'];
    const env: Record<string, string> = {
      ...minimalEnvironment,
      HOME: user?.home ?? '/root',
      ...(user === undefined ? {} : { XDG_RUNTIME_DIR: user.runtime, USER: user.name, LOGNAME: user.name }),
      ...options.env,
    };
    const enter = [...this.enter, ...become];
    return Running.start([...enter, program, ...args], { env }, options);
  }

  async close(): Promise<void> {
    const hasEnded = this.#holder.exitCode !== null || this.#holder.signalCode !== null;
    const closed = hasEnded ? undefined : once(this.#holder, 'exit');
    this.#holder.stdin?.end();
    await closed;
    removePlaceDirectory(this.directory);
  }
}
