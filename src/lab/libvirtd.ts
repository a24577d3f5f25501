/** libvirtd with the lockd plugin inside a lab, and virsh to drive it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { forkSafely, ForkWatch } from './forks.ts';
import { type GuestDescription, guestXml } from './guest.ts';
import { type Finished, GivenUp, type Running, eventually } from './process.ts';
import { type Lab, ordinaryUser } from './root.ts';

interface LibvirtdOptions {
  /** An indirect lockspace for disks: `file_lockspace_dir` of qemu-lockd.conf. */
  fileLockspace?: string;
  /** Session mode, as the lab's ordinary user. */
  ordinary?: boolean;
  env?: Readonly<Record<string, string>>;
  /** Of another host than the machine: no guest is migrated to a host with the same UUID. */
  hostUuid?: string;
}

const asRoot = `user = "root"
group = "root"
`;
const qemuConfiguration = `lock_manager = "lockd"
security_driver = "none"
namespaces = []
stdio_handler = "file"
`;

function uriOf(socket: string, mode: 'session' | 'system' = 'system'): string {
  return `qemu+unix:///${mode}?socket=${socket}`;
}

/** virsh's words to migrate a guest to another libvirtd, through a UNIX socket that both hosts see. */
export function migration(name: string, uri: string, socket: string): string[] {
  // Unsafe says libvirt, because the disks are cached. The two hosts have one cache.
  return ['migrate', '--live', '--unsafe', name, uri, '--migrateuri', `unix://${socket}`];
}

export class Libvirtd {
  readonly lab: Lab;
  readonly #options: LibvirtdOptions;
  #process: Running | undefined;

  constructor(lab: Lab, options: LibvirtdOptions = {}) {
    this.lab = lab;
    this.#options = options;
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error('libvirtd is not running');
    return this.#process.pid;
  }

  /** Writes the configuration, starts libvirtd and waits until virsh reaches it. @throws Error with its log. */
  async start(): Promise<void> {
    const ordinary = this.#options.ordinary === true;
    const configuration = ordinary ? join(ordinaryUser.home, '.config/libvirt') : '/etc/libvirt';
    const lockspace = this.#options.fileLockspace;
    this.lab.write(join(configuration, 'qemu.conf'), qemuConfiguration + (ordinary ? '' : asRoot));
    this.lab.write(
      join(configuration, 'qemu-lockd.conf'),
      lockspace === undefined ? '' : `file_lockspace_dir = "${lockspace}"\n`,
    );
    const { hostUuid } = this.#options;
    this.lab.write(
      join(configuration, 'libvirtd.conf'),
      `auth_unix_ro = "none"\nauth_unix_rw = "none"\n${hostUuid === undefined ? '' : `host_uuid = "${hostUuid}"\n`}`,
    );
    if (ordinary) {
      await this.lab.run('chown', [
        '-R',
        `${ordinaryUser.uid}:${ordinaryUser.gid}`,
        join(ordinaryUser.home, '.config'),
      ]);
    }
    const output = join(this.lab.directory, 'libvirtd.log');
    const env = { ...forkSafely, ...this.#options.env };
    const libvirtd = this.lab.spawn('/usr/sbin/libvirtd', [], { output, ordinary, env });
    this.#process = libvirtd;
    await eventually(
      'libvirtd answers',
      async () => {
        if (libvirtd.finished !== undefined) throw new GivenUp(`libvirtd ended: ${libvirtd.output}`);
        return (await this.virsh('list')).code === 0;
      },
      30_000,
    );
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#process?.stop(signal, 20_000);
    this.#process = undefined;
  }

  /** Runs one virsh command. */
  async virsh(...args: readonly string[]): Promise<Finished> {
    const ordinary = this.#options.ordinary === true;
    const directory = ordinary ? ordinaryUser.runtime : '/run';
    // The socket is named because newer clients look for virtqemud first, and could start another libvirtd of their own.
    const uri = uriOf(`${directory}/libvirt/libvirt-sock`, ordinary ? 'session' : 'system');
    return this.lab.run('virsh', ['-q', '-c', uri, ...args], { ordinary });
  }

  /** As virsh. @throws Error with what virsh said when it fails; returns its standard output. */
  async must(...args: readonly string[]): Promise<string> {
    const finished = await this.virsh(...args);
    if (finished.code !== 0) throw new Error(`virsh ${args.join(' ')}: ${finished.stderr}${finished.stdout}`);
    return finished.stdout.trim();
  }

  /** Starts a transient guest, once more if libvirtd's child hangs by itself. `code` is 0 for success, `stderr` has libvirt's message. */
  async create(guest: GuestDescription): Promise<Finished> {
    const file = join(this.lab.directory, `${guest.name}.xml`);
    this.lab.write(file, guestXml(guest));
    const { pid } = this;
    for (;;) {
      const forks = new ForkWatch(() => [pid]);
      const finished = await this.virsh('create', file);
      forks.stop();
      if (forks.killed.length === 0) return finished;
    }
  }

  /** Starts a transient guest and returns its QEMU's pid. @throws Error with what virsh said when it does not start. */
  async run(guest: GuestDescription): Promise<number> {
    const finished = await this.create(guest);
    if (finished.code !== 0) throw new Error(`guest ${guest.name}: ${finished.stderr}`);
    return this.pidOf(guest.name);
  }

  /**
   * Migrates a running guest.
   *
   * @param socket a path that both hosts see
   * @throws Error with what virsh said when it fails
   */
  async migrate(name: string, to: Libvirtd, socket: string): Promise<void> {
    const { code, stderr, stdout } = await this.migration(name, to, socket);
    if (code !== 0) throw new Error(`virsh migrate ${name}: ${stderr}${stdout}`);
  }

  /** As migrate, with more options of virsh. `code` is 0 for success, `stderr` has libvirt's message. */
  async migration(name: string, { lab }: Libvirtd, socket: string, ...options: readonly string[]): Promise<Finished> {
    return this.virsh(...migration(name, uriOf(lab.outside('/run/libvirt/libvirt-sock')), socket), ...options);
  }

  /** The pid of a running guest's QEMU. */
  pidOf(name: string): number {
    const directory = this.#options.ordinary === true ? ordinaryUser.runtime : '/run';
    const file = ['qemu/run', 'qemu'].map((d) => this.lab.outside(join(directory, 'libvirt', d, `${name}.pid`)));
    for (const path of file) {
      try {
        return Number(readFileSync(path, 'latin1'));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
    throw new Error(`no pid file of guest ${name}`);
  }

  /** Sorted names of the guests that libvirtd knows as running or paused. */
  async guests(): Promise<string[]> {
    return (await this.must('list', '--name'))
      .split('\n')
      .filter((name) => name !== '')
      .sort();
  }
}
