/** A daemon that one check restarts. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CheckContext, NotedPeer } from '../../check-context.ts';
import { Actor } from '../../exchange/actor.ts';
import { admin, clientIds, readUnsigned } from '../../../../lab/admin-calls.ts';
import type { Daemon, StartOptions } from '../../../../lab/daemon.ts';
import { lockOn } from '../../../../lab/observe.ts';
import type { Place } from '../../../../lab/place.ts';
import { eventually, executeAgain, GivenUp, programImage } from '../../../../lab/process.ts';
import { type Call, lock, Peer } from '../../../../lab/wire.ts';
import { DaemonScene } from '../daemon-scene.ts';

/** Error codes that the checks expect. */
export const busy = 87;
export const invalid = 55;
export const denied = 29;
export const internal = 1;

export class Scene extends DaemonScene {
  readonly place: Place;
  readonly #options: StartOptions;

  private constructor(context: CheckContext, daemon: Daemon, options: StartOptions) {
    super(context, daemon);
    this.place = context.place;
    this.#options = options;
  }

  /** Starts the daemon by a path at which the check may change the program. */
  static async open(context: CheckContext, options: StartOptions): Promise<Scene> {
    const own = { ...options, program: programPath(context.place) };
    context.place.install(context.program, own.program);
    return new Scene(context, await context.start(own), own);
  }

  /** Starts the daemon again, as the first one, which has ended. */
  async startAgain(): Promise<Daemon> {
    return this.context.start(this.#options);
  }

  /** Another process. */
  actor(): Actor {
    const actor = Actor.start();
    this.context.after(async () => actor.stop());
    return actor;
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

  /** Sends SIGUSR1 and waits until the process has executed its program again and answers. */
  async restart(): Promise<void> {
    await this.reexecute();
    await this.answers();
  }

  /** Sends SIGUSR1 and waits until the process has executed its program again. */
  async reexecute(): Promise<void> {
    this.context.note('SIGUSR1');
    await executeAgain(this.daemon.pid, undefined, () => this.#assertRuns());
  }

  /** Waits until the daemon answers a new client and has noticed its end. */
  async answers(): Promise<void> {
    await this.until('the daemon answers', async () => {
      const peer = await Peer.connect(this.daemon.socket);
      const error = await peer.ask(lock.release('', 'nothing'));
      peer.end();
      await peer.drain();
      return error !== undefined;
    });
  }

  /** Repeats a probe until it is true. @throws Error at once when the daemon ends */
  async until(what: string, probe: () => boolean | Promise<boolean>, limit?: number): Promise<void> {
    const alive = async (): Promise<boolean> => {
      this.#assertRuns();
      return probe();
    };
    await eventually(what, alive, limit);
  }

  #assertRuns(): void {
    const end = this.daemon.finished;
    if (end !== undefined) throw new GivenUp(`the daemon ended with ${end.code ?? end.signal ?? 'nothing'}`);
  }

  /** Sends SIGUSR1 where the daemon must not execute its program, and waits until it has said so and answers. */
  async refuses(): Promise<void> {
    this.context.note('SIGUSR1');
    const { pid } = this.daemon;
    const before = programImage(pid);
    const logged = this.daemon.log.length;
    process.kill(pid, 'SIGUSR1');
    await this.until('the daemon says that it cannot', () => this.daemon.log.length > logged);
    await this.answers();
    assert.equal(programImage(pid), before, 'it executed the program');
  }

  /** The ids of a server's clients, in its order. */
  async clients(asker: NotedPeer, server = 'virtlockd'): Promise<number[]> {
    return clientIds((await asker.peer.call(admin.clients(server))).payload);
  }

  async limits(asker: NotedPeer, server = 'virtlockd'): Promise<Record<string, number>> {
    return readUnsigned((await asker.must(admin.limits(server))).payload);
  }

  /** Puts a script at the path that the daemon executes, or removes the program there. */
  replaceProgram(script: string | undefined, mode = 0o755): void {
    const path = this.place.outside(programPath(this.place));
    rmSync(path);
    if (script !== undefined) writeFileSync(path, script, { mode });
  }

  restoreProgram(): void {
    this.place.install(this.context.program, programPath(this.place));
  }
}

/** The path, inside, that the daemon of a scene is started by. */
export function programPath(place: Place): string {
  return join(place.sockets, '../conformance/virtlockd');
}

/** Makes a call that must be refused with that code. */
export async function refused(peer: NotedPeer, call: Call, code: number): Promise<void> {
  const error = await peer.ask(call);
  assert.ok(error !== undefined, 'the call succeeded');
  assert.equal(error.code, code, error.message);
}
