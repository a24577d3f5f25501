/** A daemon of its own for one check of a restart, with what the checks do to it. */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { CheckContext, NotedPeer } from '../../check-context.ts';
import { Actor } from '../../exchange/actor.ts';
import { admin, clientIds, readUnsigned } from '../../../../lab/admin-calls.ts';
import type { Daemon, StartOptions } from '../../../../lab/daemon.ts';
import { lockOn } from '../../../../lab/observe.ts';
import type { Place } from '../../../../lab/place.ts';
import { eventually, executeAgain, GivenUp, programImage } from '../../../../lab/process.ts';
import { type Call, lock, type Owner, Peer, type WireError } from '../../../../lab/wire.ts';

/** Above every pid that there can be: whatever happens to such an owner, nobody is killed. */
const NOBODY = 5_000_000;

/** Error codes that the checks expect. */
export const busy = 87;
export const invalid = 55;
export const denied = 29;
export const internal = 1;

export class Scene {
  readonly context: CheckContext;
  readonly place: Place;
  readonly daemon: Daemon;
  /** An empty directory that the daemon sees at the same path. */
  readonly dir: string;
  readonly #options: StartOptions;
  #nobodies = 0;

  private constructor(context: CheckContext, daemon: Daemon, options: StartOptions) {
    this.context = context;
    this.place = context.place;
    this.daemon = daemon;
    this.dir = context.directory();
    this.#options = options;
  }

  /** Starts the daemon by a path whose program the check may change. */
  static async open(context: CheckContext, options: StartOptions): Promise<Scene> {
    const own = { ...options, program: programPath(context.place) };
    linkProgram(context.place, context.program);
    return new Scene(context, await context.start(own), own);
  }

  /** A daemon started as the first one was, which has ended. */
  async startAgain(): Promise<Daemon> {
    return this.context.start(this.#options);
  }

  /** A connection to the lock socket. */
  async connect(): Promise<NotedPeer> {
    return this.context.connect(this.daemon.socket);
  }

  /** A connection to the admin socket. */
  async connectAdmin(): Promise<NotedPeer> {
    return this.context.connectAdmin();
  }

  /** A connection that has registered an owner, of which there is no process. */
  async owner(owner: Partial<Owner> = {}): Promise<NotedPeer> {
    const peer = await this.connect();
    await peer.must(lock.register({ pid: NOBODY + ++this.#nobodies, ...owner }));
    return peer;
  }

  /** Another process. */
  actor(): Actor {
    const actor = Actor.start();
    this.context.after(async () => actor.stop());
    return actor;
  }

  /** Makes an empty file and returns its path. */
  file(name: string): string {
    const path = join(this.dir, name);
    writeFileSync(path, '');
    return path;
  }

  /** Makes an empty directory and returns its path. */
  directory(name: string): string {
    const path = join(this.dir, name);
    mkdirSync(path);
    return path;
  }

  /** The daemon's lock on a file, such as `WRITE 0 0`. */
  lockOn(path: string): string | undefined {
    return lockOn(this.daemon.pid, path);
  }

  /** Sends SIGUSR1, waits until the process has executed its program anew, and until that answers. */
  async restart(): Promise<void> {
    await this.reexecute();
    await this.answers();
  }

  /** Sends SIGUSR1 and waits until the process has executed its program anew. */
  async reexecute(): Promise<void> {
    this.context.note('SIGUSR1');
    await executeAgain(this.daemon.pid, undefined, () => {
      this.assertRuns();
    });
  }

  /** Waits until the daemon answers somebody new, and has seen them leave. */
  async answers(): Promise<void> {
    await this.until('the daemon answers', async () => {
      const peer = await Peer.connect(this.daemon.socket);
      const error = await peer.ask(lock.release('', 'nothing'));
      peer.end();
      await peer.drain();
      return error !== undefined;
    });
  }

  /** Asks again until there is an answer. @throws Error at once when the daemon ends meanwhile */
  async until(what: string, probe: () => boolean | Promise<boolean>, limit?: number): Promise<void> {
    const alive = async (): Promise<boolean> => {
      this.assertRuns();
      return probe();
    };
    await eventually(what, alive, limit);
  }

  private assertRuns(): void {
    const end = this.daemon.finished;
    if (end !== undefined) throw new GivenUp(`the daemon ended with ${end.code ?? end.signal ?? 'nothing'}`);
  }

  /** Sends SIGUSR1 where the daemon must not execute its program, and waits until it is seen to go on. */
  async refuses(): Promise<void> {
    this.context.note('SIGUSR1');
    const { pid } = this.daemon;
    const before = programImage(pid);
    const logged = this.daemon.log.length;
    process.kill(pid, 'SIGUSR1');
    await this.until('the daemon says that it cannot', () => this.daemon.log.length > logged);
    await this.answers();
    assert.equal(programImage(pid), before, 'the program has been executed all the same');
  }

  /** The ids of a server's clients, in its order. */
  async clients(asker: NotedPeer, server = 'virtlockd'): Promise<number[]> {
    return clientIds((await asker.peer.call(admin.clients(server))).payload);
  }

  async limits(asker: NotedPeer, server = 'virtlockd'): Promise<Record<string, number>> {
    return readUnsigned((await asker.must(admin.limits(server))).payload);
  }

  /** Puts another program at the path that the daemon executes. */
  replaceProgram(text: string, mode = 0o755): void {
    const path = this.place.outside(programPath(this.place));
    writeFileSync(`${path}.new`, text, { mode });
    renameSync(`${path}.new`, path);
  }

  removeProgram(): void {
    rmSync(this.place.outside(programPath(this.place)));
  }

  restoreProgram(): void {
    linkProgram(this.place, this.context.program);
  }
}

/** The path, inside, that the daemon of a scene is started by. */
export function programPath(place: Place): string {
  return join(place.sockets, '../conformance/virtlockd');
}

/** Makes that path lead to the program under check. */
function linkProgram(place: Place, program: string): void {
  const path = place.outside(programPath(place));
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(program, `${path}.new`);
  renameSync(`${path}.new`, path);
}

/** Makes a call that is refused, with that code. */
export async function refused(peer: NotedPeer, call: Call, code: number): Promise<WireError> {
  const error = await peer.ask(call);
  assert.ok(error !== undefined, 'the call succeeded');
  assert.equal(error.code, code, error.message);
  return error;
}
