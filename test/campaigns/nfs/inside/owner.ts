/** An owner of locks: a process that does nothing, and a connection that acts for it as a guest's would. */
import type { Daemon } from '../../../../src/lab/daemon.ts';
import type { Running } from '../../../../src/lab/process.ts';
import { autocreate, lock, type Peer, shared, type WireError } from '../../../../src/lab/wire.ts';
import type { Host } from './host.ts';

/** A lock as an owner asks for it. */
export interface Lock {
  /** '' for a disk image itself. */
  readonly lockspace: string;
  readonly name: string;
  readonly isShared?: boolean;
}

export const pathOf = ({ lockspace, name }: Lock): string => (lockspace === '' ? name : `${lockspace}/${name}`);

export class Owner {
  readonly process: Running;
  readonly #peer: Peer;

  private constructor(process: Running, peer: Peer) {
    this.process = process;
    this.#peer = peer;
  }

  static async start(daemon: Pick<Daemon<Host>, 'lab' | 'connect'>, name: string): Promise<Owner> {
    const process = daemon.lab.spawn('sleep', ['1000000']);
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: process.pid, name }));
    return new Owner(process, peer);
  }

  get lives(): boolean {
    return this.process.finished === undefined;
  }

  /** Returns the daemon's refusal; undefined: it is granted. */
  async acquire({ lockspace, name, isShared = false }: Lock): Promise<WireError | undefined> {
    // It may be there already.
    if (lockspace !== '') await this.#peer.ask(lock.createLockspace(lockspace));
    return this.#peer.ask(lock.acquire(lockspace, name, (lockspace === '' ? 0 : autocreate) | (isShared ? shared : 0)));
  }

  /** @throws Error with the daemon's refusal */
  async hold(...locks: readonly Lock[]): Promise<void> {
    for (const one of locks) {
      const refusal = await this.acquire(one);
      if (refusal !== undefined) throw new Error(`${pathOf(one)}: ${refusal.message ?? 'refused'}`);
    }
  }

  async release({ lockspace, name }: Lock): Promise<WireError | undefined> {
    return this.#peer.ask(lock.release(lockspace, name));
  }

  /** The process first: whoever waits for the end of an owner that holds locks need not end it. */
  async end(): Promise<void> {
    await this.process.stop('SIGKILL');
    this.#peer.close();
  }
}
