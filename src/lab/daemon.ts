/** A lock daemon of a test or a check. */
import { join } from 'node:path';
import { type LockRow, locksOf } from './observe.ts';
import type { Place, SpawnOptions } from './place.ts';
import { type Finished, GivenUp, type Running, eventually } from './process.ts';
import { ordinaryUser } from './root.ts';
import { Peer } from './wire.ts';

export interface StartOptions extends Pick<SpawnOptions, 'env' | 'ordinary'> {
  /** Text of virtlockd.conf; without it, the present file stays. */
  readonly configuration?: string | undefined;
  readonly args?: readonly string[];
  /** Another path of the command's program, to start it by. SIGUSR1 executes it again. */
  readonly program?: string | undefined;
}

export class Daemon<P extends Place = Place> {
  readonly process: Running;
  readonly lab: P;
  /** Outside paths of the two sockets. Those of a private root lead through /proc, which keeps them short enough for connect. */
  readonly socket: string;
  readonly adminSocket: string;
  readonly #ownsLab: boolean;

  /** @param paths of its sockets */
  constructor(process: Running, lab: P, paths: Pick<Place, 'sockets'> = lab, ownsLab = false) {
    this.process = process;
    this.lab = lab;
    this.socket = lab.outside(join(paths.sockets, 'virtlockd-sock'));
    this.adminSocket = lab.outside(join(paths.sockets, 'virtlockd-admin-sock'));
    this.#ownsLab = ownsLab;
  }

  /**
   * Starts a daemon at a place, without waiting for it.
   * @param ownsLab the place is closed when the daemon is stopped
   */
  static launch<P extends Place>(
    lab: P,
    [named = '', ...first]: readonly string[],
    { program = named, args = [], configuration, env, ordinary = false }: StartOptions = {},
    ownsLab = false,
  ): Daemon<P> {
    const paths = ordinary ? ordinaryUser : lab;
    if (configuration !== undefined) lab.write(paths.configuration, configuration);
    const output = join(lab.directory, 'virtlockd.log');
    return new Daemon(lab.spawn(program, [...first, ...args], { output, env, ordinary }), lab, paths, ownsLab);
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

  /** Its log. */
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

  /** Waits until both sockets accept. Else it is killed. @throws Error with its log when it ends or takes too long */
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
      const { log } = this;
      await this.stop();
      throw new Error(`${(error as Error).message}\n${log}`, { cause: error });
    }
  }

  /** Ends the daemon, waits for that, and closes the lab if it was made for it. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Finished> {
    const finished = await this.process.stop(signal);
    if (this.#ownsLab) await this.lab.close();
    return finished;
  }
}
