/** Lock daemons under test: the C one of any generation or this project's, each in a lab of its own. */
import { join } from 'node:path';
import { readFileSync, renameSync, symlinkSync } from 'node:fs';
import { Daemon } from '../../src/lab/daemon.ts';
import { type Finished, GivenUp, type Running, executeAgain } from './process.ts';
import { Lab, type SpawnOptions, checkout, ordinaryUser } from './root.ts';
import type { DaemonKind } from './requirements.ts';
import { lock } from './wire.ts';

export interface DaemonOptions {
  /** Text of virtlockd.conf; without it there is no such file. */
  configuration?: string;
  args?: readonly string[];
  env?: Readonly<Record<string, string>>;
  /** Run as the lab's ordinary user, in session mode. */
  ordinary?: boolean;
  /** The path inside the lab to start it by; default: programOf(kind). It is what SIGUSR1 executes again. */
  program?: string;
  /** The lab to start it in; default: a new one of its own generation (ours: 9.0.0), closed by stop(). */
  lab?: Lab;
}

/** The file that starts that daemon, inside its lab. */
export function programOf(kind: DaemonKind): string {
  return kind === 'ours' ? join(checkout, 'bin/virtlockd') : '/usr/sbin/virtlockd';
}

/**
 * Puts a program at a path inside a lab, as an upgrade or a swap does: in one step, under the old one's feet.
 * The path becomes a link, because bin/virtlockd finds its parts beside itself.
 */
export function install(lab: Lab, program: string, at = '/usr/sbin/virtlockd'): void {
  const path = lab.outside(at);
  symlinkSync(program, `${path}.new`);
  renameSync(`${path}.new`, path);
}

export class LockDaemon extends Daemon {
  readonly kind: DaemonKind;
  readonly lab: Lab;
  readonly #ownsLab: boolean;

  constructor(kind: DaemonKind, lab: Lab, process: Running, directory: string, ownsLab: boolean) {
    super(process, lab.outside(directory));
    this.kind = kind;
    this.lab = lab;
    this.#ownsLab = ownsLab;
  }

  /** The program that runs in the process now. */
  commandLine(): string[] {
    return readFileSync(`/proc/${this.pid}/cmdline`, 'latin1').split('\0').slice(0, -1);
  }

  /** Ends the daemon, waits for that, and closes the lab if it was made for it. */
  override async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Finished> {
    const finished = await super.stop(signal);
    if (this.#ownsLab) await this.lab.close();
    return finished;
  }
}

/** Starts a lock daemon and waits until it answers. @throws Error with its log when it ends instead. */
export async function startDaemon(kind: DaemonKind, options: DaemonOptions = {}): Promise<LockDaemon> {
  const lab = options.lab ?? (await Lab.open(kind === 'ours' ? '9.0.0' : kind));
  const configuration =
    options.ordinary === true
      ? join(ordinaryUser.home, '.config/libvirt/virtlockd.conf')
      : '/etc/libvirt/virtlockd.conf';
  if (options.configuration !== undefined) lab.write(configuration, options.configuration);
  const output = join(lab.directory, 'virtlockd.log');
  const spawnOptions: SpawnOptions = {
    output,
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.ordinary === undefined ? {} : { ordinary: options.ordinary }),
  };
  const running = lab.spawn(options.program ?? programOf(kind), options.args ?? [], spawnOptions);
  const directory = options.ordinary === true ? join(ordinaryUser.runtime, 'libvirt') : '/run/libvirt';
  const daemon = new LockDaemon(kind, lab, running, directory, options.lab === undefined);
  try {
    await daemon.accepts(`${kind} virtlockd`);
  } catch (error) {
    await daemon.stop();
    throw error;
  }
  return daemon;
}

/** As executeAgain, and waits until the new program answers. @throws Error with the log. */
export async function reexecute(daemon: LockDaemon, limit = 10_000): Promise<void> {
  try {
    await executeAgain(daemon.pid, limit, () => {
      if (daemon.finished !== undefined) throw new GivenUp('it has ended');
    });
    const peer = await daemon.connect();
    // Unregistered: an error, but an answer, and it comes from the new program.
    await peer.ask(lock.release('', 'none'));
    peer.close();
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${daemon.log}`, { cause: error });
  }
}
