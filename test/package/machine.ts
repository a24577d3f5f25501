/** A Debian with a real systemd as its first process: the release's tree, booted by systemd-nspawn. */
import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually, type Finished, GivenUp, Running } from '../../src/lab/process.ts';
import { Peer } from '../../src/lab/wire.ts';
import { childrenOf, controlGroupsOf, isStorageHelper, processes, unlessGone } from '../../src/proc/processes.ts';
import { debian12, missingRelease, type Release } from './trees.ts';

const here = dirname(fileURLToPath(import.meta.url));

/** Why no machine can be booted here, or undefined. */
export function missingMachine(release: Release = debian12): string | undefined {
  try {
    accessSync('/usr/bin/systemd-nspawn', constants.X_OK);
  } catch {
    return 'systemd-nspawn is not installed (package systemd-container)';
  }
  return missingRelease(release);
}

export class Machine {
  /** The same path inside and outside. */
  readonly directory: string;
  readonly #nspawn: ChildProcess;
  readonly #init: number;

  private constructor(directory: string, nspawn: ChildProcess, init: number) {
    this.directory = directory;
    this.#nspawn = nspawn;
    this.#init = init;
  }

  /**
   * Boots one and waits until its sockets listen.
   * @param shared directories that are shown in it at the same path, read-only
   * @throws Error with its output
   */
  static async boot(release: Release = debian12, shared: readonly string[] = []): Promise<Machine> {
    const directory = mkdtempSync(join(tmpdir(), 'virtlockd-machine-'));
    chmodSync(directory, 0o755);
    const log = join(directory, 'console.log');
    const output = openSync(log, 'w');
    const script = [join(here, 'boot.sh'), release.tree, directory, ...shared];
    const nspawn = spawn('unshare', ['--mount', '--propagation', 'private', ...script], {
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    try {
      const init = await eventually('the machine has booted', () => listening(nspawn), 60_000);
      return new Machine(directory, nspawn, init);
    } catch (error) {
      const said = readFileSync(log, 'latin1');
      nspawn.kill();
      rmSync(directory, { recursive: true, force: true });
      throw new Error(`${(error as Error).message}\n${said}`, { cause: error });
    }
  }

  /** The outside path of a path in it. */
  outside(inside: string): string {
    return `/proc/${this.#init}/root${inside}`;
  }

  async run(command: string, ...args: readonly string[]): Promise<Finished> {
    const child = spawn('nsenter', [...this.#enter, command, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    return new Running(child, command).exited;
  }

  /** The words of nsenter before a command. */
  get #enter(): readonly string[] {
    const namespaces = ['--mount', '--pid', '--uts', '--ipc', '--net', '--cgroup', '--root', '--wd'];
    const environment = ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C', 'DEBIAN_FRONTEND=noninteractive'];
    return ['--target', String(this.#init), ...namespaces, '--', 'env', '--ignore-environment', ...environment];
  }

  /** Starts a command whose standard input and output are pipes. It ends with the machine. */
  spawn(command: string, ...args: readonly string[]): ChildProcessByStdio<Writable, Readable, null> {
    return spawn('nsenter', [...this.#enter, command, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  }

  /** As run. @throws Error with the output when it fails; returns its standard output. */
  async must(command: string, ...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, ...args);
    if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout.trim();
  }

  /** Properties of virtlockd.service, by name. */
  async service(): Promise<Record<string, string>> {
    const shown = await this.must('systemctl', 'show', 'virtlockd.service');
    return Object.fromEntries(shown.split('\n').map((line) => line.split(/=(.*)/s)) as [string, string][]);
  }

  /**
   * The pid, outside, of the process of that service which systemd itself has started: the main one, or that of a command of the
   * unit. Undefined while there is none.
   */
  mainProcess(unit: string): number | undefined {
    const isOfUnit = (pid: number): boolean => unlessGone(() => controlGroupsOf(pid))?.includes(`/${unit}\n`) === true;
    // A helper stays when the daemon dies.
    return childrenOf(this.#init).find((pid) => isOfUnit(pid) && !isStorageHelper(pid));
  }

  /** Its processes, by their pids outside. */
  processes(): number[] {
    // Of some other process it may not be known.
    const spaceOf = (pid: number): string | undefined => {
      try {
        return readlinkSync(`/proc/${pid}/ns/pid`);
      } catch {
        return undefined;
      }
    };
    const own = spaceOf(this.#init);
    return processes().filter((pid) => own !== undefined && spaceOf(pid) === own);
  }

  /** Record locks of both kinds that a process of it has by its descriptors: access and inode. */
  async locksOf(pid: string): Promise<string[]> {
    const known = await this.must('sh', '-c', `cat /proc/${pid}/fdinfo/* || true`);
    const rows = known.split('\n').map((line) => line.split(/\s+/));
    const locks = rows.flatMap(([word, , kind, , access, , file]) =>
      word === 'lock:' && (kind === 'POSIX' || kind === 'OFDLCK') ? [`${access ?? ''} ${file ?? ''}`] : [],
    );
    return [...new Set(locks)];
  }

  async connect(): Promise<Peer> {
    return Peer.connect(this.outside('/run/libvirt/virtlockd-sock'));
  }

  async stop(): Promise<void> {
    const ended = this.#nspawn.exitCode === null ? once(this.#nspawn, 'exit') : undefined;
    // The machine's first process takes this for an order to halt at once.
    process.kill(this.#init, 'SIGKILL');
    await ended;
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** The pid of the first process once it listens at the daemon's socket. */
function listening(nspawn: ChildProcess): number | undefined {
  if (nspawn.exitCode !== null || nspawn.pid === undefined) throw new GivenUp('systemd-nspawn has ended');
  const [child] = childrenOf(nspawn.pid);
  if (child === undefined) return undefined;
  accessSync(`/proc/${child}/root/run/libvirt/virtlockd-sock`);
  accessSync(`/proc/${child}/root/run/systemd/system`);
  return child;
}
