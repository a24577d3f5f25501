/** A lock daemon that was started to be looked at from outside. */
import { join } from 'node:path';
import { type LockRow, locksOf } from './observe.ts';
import type { Place } from './place.ts';
import { type Finished, GivenUp, type Running, eventually } from './process.ts';
import { Peer } from './wire.ts';

export class Daemon {
  readonly process: Running;
  /** Outside paths of the two sockets. Those of a private root lead through /proc, so they stay short enough for connect. */
  readonly socket: string;
  readonly adminSocket: string;

  /** @param directory the outside path of the directory that holds its sockets */
  constructor(process: Running, directory: string) {
    this.process = process;
    this.socket = join(directory, 'virtlockd-sock');
    this.adminSocket = join(directory, 'virtlockd-admin-sock');
  }

  get pid(): number {
    return this.process.pid;
  }

  /** How it has ended, or undefined while it runs. */
  get finished(): Finished | undefined {
    return this.process.finished;
  }

  get exited(): Promise<Finished> {
    return this.process.exited;
  }

  /** What it has logged. */
  get log(): string {
    return this.process.output;
  }

  async connect(): Promise<Peer> {
    return Peer.connect(this.socket);
  }

  async connectAdmin(): Promise<Peer> {
    return Peer.connect(this.adminSocket);
  }

  /** Its rows of /proc/locks, the pid file's included. */
  locks(): LockRow[] {
    return locksOf(this.pid);
  }

  /** Waits until both sockets accept. @throws Error with its log when it ends instead, or takes too long; it is killed then. */
  async accepts(name: string): Promise<void> {
    try {
      await eventually(`${name} accepts`, async () => {
        const end = this.finished;
        if (end !== undefined) throw new GivenUp(`${name} ended with ${end.code ?? end.signal ?? 'nothing'}`);
        (await this.connectAdmin()).close();
        (await this.connect()).close();
        return true;
      });
    } catch (error) {
      await this.process.stop('SIGKILL');
      throw new Error(`${(error as Error).message}\n${this.log}`, { cause: error });
    }
  }

  /** Ends the daemon and waits for that. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Finished> {
    return this.process.stop(signal);
  }
}

export interface StartOptions {
  /** Text of virtlockd.conf; without it, what is there stays. */
  readonly configuration?: string | undefined;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The path to start the program by, in place of the command's own: it leads there too. */
  readonly program?: string;
}

/** Starts a daemon at a place, without waiting for it. */
export function launchDaemon(place: Place, command: readonly string[], options: StartOptions = {}): Daemon {
  const [named = '', ...first] = command;
  const { program = named } = options;
  if (options.configuration !== undefined) place.write(place.configuration, options.configuration);
  const output = join(place.directory, 'virtlockd.log');
  const env = options.env === undefined ? {} : { env: options.env };
  return new Daemon(
    place.spawn(program, [...first, ...(options.args ?? [])], { output, ...env }),
    place.outside(place.sockets),
  );
}

/** Starts a daemon at a place and waits until it accepts. @throws Error with its log */
export async function startDaemon(place: Place, command: readonly string[], options?: StartOptions): Promise<Daemon> {
  const daemon = launchDaemon(place, command, options);
  await daemon.accepts(command[0] ?? 'virtlockd');
  return daemon;
}
