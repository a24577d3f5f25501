/** One of the two hosts in the virtual machine: its namespaces, its mounts, and its lock daemon. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon } from '../../../../src/lab/daemon.ts';
import { minimalEnvironment, Place, type SpawnOptions } from '../../../../src/lab/place.ts';
import { eventually, executeAgain, type Finished, GivenUp, Running } from '../../../../src/lab/process.ts';
import { lock } from '../../../../src/lab/wire.ts';

/** Emulation makes everything some twenty times slower. */
export const PATIENCE = 120_000;

/** Where this project and libvirt have their daemons, and the path by which both are started here. */
export const programs = { own: '/checkout/bin/virtlockd', libvirt: '/usr/sbin/virtlockd' } as const;
export type Program = keyof typeof programs;
const STARTED = '/run/bin/virtlockd';

/** Above the highest pid. */
const NOBODY = 5_000_000;

const NAMESPACES = ['--mount', '--net', '--uts'];

export class Host extends Place {
  /** Outside: each host has a /tmp of its own. */
  readonly directory: string;
  readonly configuration = '/etc/libvirt/virtlockd.conf';
  readonly sockets = '/run/libvirt';
  readonly name: string;
  readonly #number: number;
  readonly #holder: ChildProcess;
  readonly #pid: number;

  private constructor(number: number, holder: ChildProcess, pid: number) {
    super();
    this.name = `node${number}`;
    this.directory = `/tmp/${this.name}`;
    this.#number = number;
    this.#holder = holder;
    this.#pid = pid;
    mkdirSync(this.directory, { recursive: true });
  }

  static async open(number: number): Promise<Host> {
    const namespaces = ['--mount', '--uts', '--propagation', 'private'];
    const script = join(import.meta.dirname, 'host.sh');
    const holder = spawn(
      'nsenter',
      [`--net=/run/netns/h${number}`, 'unshare', ...namespaces, '/bin/sh', script, String(number)],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const isReady = await Promise.race([
      once(holder.stdout, 'data').then(() => true),
      once(holder, 'exit').then(() => false),
    ]);
    if (!isReady || holder.pid === undefined) throw new Error(`host ${number} cannot be made`);
    return new Host(number, holder, holder.pid);
  }

  /** A command that runs its arguments on this host, as --peer of `lockspace test` wants it. */
  get entrance(): string {
    return ['nsenter', '--target', this.#pid, ...NAMESPACES, 'env', 'PATH=/checkout/bin:/usr/bin:/bin'].join(' ');
  }

  /** The words before a command that is to run on this host. */
  get enter(): readonly string[] {
    return ['nsenter', '--target', String(this.#pid), ...NAMESPACES, '--'];
  }

  outside(inside: string): string {
    return `/proc/${this.#pid}/root${inside}`;
  }

  spawn(program: string, args: readonly string[] = [], options: SpawnOptions = {}): Running {
    const env = { ...minimalEnvironment, HOME: '/root', ...options.env };
    return Running.start([...this.enter, program, ...args], { env }, options);
  }

  /** Runs virt-lockctl. `output` has both streams. */
  async lockctl(...args: readonly string[]): Promise<Finished & { readonly output: string }> {
    const finished = await this.run('/checkout/bin/virt-lockctl', args);
    return { ...finished, output: `${finished.stdout}${finished.stderr}`.trim() };
  }

  /** Takes the network away, or gives it back. */
  async setNetwork(state: 'up' | 'down'): Promise<void> {
    await command('ip', 'link', 'set', `v${this.#number}`, state);
  }

  async startDaemon(program: Program = 'own', configuration = ''): Promise<Daemon<Host>> {
    this.install(programs[program], STARTED);
    rmSync(join(this.directory, 'virtlockd.log'), { force: true });
    const daemon = Daemon.launch<Host>(this, [STARTED], {
      configuration: program === 'own' ? configuration : undefined,
    });
    await eventually(
      `${program} virtlockd accepts`,
      async () => {
        if (daemon.finished !== undefined) throw new GivenUp(`it has ended: ${daemon.log}`);
        (await daemon.connect()).close();
        return true;
      },
      PATIENCE,
    );
    return daemon;
  }

  async close(): Promise<void> {
    const closed = once(this.#holder, 'exit');
    this.#holder.stdin?.end();
    await closed;
  }
}

/** Has the daemon execute the program that is to follow it, and waits until that answers. @throws Error with the log */
export async function executeNext(daemon: Daemon<Host>, program: Program): Promise<void> {
  daemon.lab.install(programs[program], STARTED);
  try {
    await executeAgain(daemon.pid, PATIENCE, () => {
      if (daemon.finished !== undefined) throw new GivenUp('it has ended');
    });
    const peer = await daemon.connect();
    // An answer of the new program.
    await peer.must(lock.register({ pid: NOBODY }));
    peer.close();
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${daemon.log}`, { cause: error });
  }
}

/** Runs a program of the machine itself, where the NFS server is. @throws Error with its output when it fails */
export async function command(program: string, ...args: readonly string[]): Promise<string> {
  const running = Running.start([program, ...args], { env: minimalEnvironment }, {});
  const { code, stdout, stderr } = await running.exited;
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}
