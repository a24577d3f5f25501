/** A daemon of its own for one check, with owners and files. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Daemon } from '../../../lab/daemon.ts';
import { lock, type Owner } from '../../../lab/wire.ts';
import type { CheckContext, NotedPeer } from '../check-context.ts';

/** Above every pid: whatever happens to such an owner, no process is killed. */
export const NOBODY = 5_000_000;

export class DaemonScene {
  readonly context: CheckContext;
  readonly daemon: Daemon;
  /** An empty directory that the daemon sees at the same path. */
  readonly dir: string;
  #nobodies = 0;

  protected constructor(context: CheckContext, daemon: Daemon) {
    this.context = context;
    this.daemon = daemon;
    this.dir = context.directory();
  }

  /** A connection to the lock socket. */
  async connect(): Promise<NotedPeer> {
    return this.context.connect(this.daemon.socket);
  }

  /** A connection that has registered an owner without a process. */
  async owner(owner: Partial<Owner> = {}): Promise<NotedPeer> {
    const peer = await this.connect();
    await peer.must(lock.register({ pid: NOBODY + ++this.#nobodies, ...owner }));
    return peer;
  }

  /** Makes an empty file and returns its path. */
  file(name: string): string {
    const path = join(this.dir, name);
    writeFileSync(path, '');
    return path;
  }

  /** An owner that holds a new file. */
  async held(flags = 0, owner: Partial<Owner> = {}): Promise<{ readonly holder: NotedPeer; readonly disk: string }> {
    const disk = this.file('disk');
    const holder = await this.owner(owner);
    await holder.must(lock.acquire('', disk, flags));
    return { holder, disk };
  }
}
