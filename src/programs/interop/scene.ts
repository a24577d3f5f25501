/** A libvirtd of one generation, connected to a lock daemon of any kind, each with its own libraries. */
import { mkdtempSync, chmodSync, mkdirSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LockDaemon, startDaemon } from '../../lab/start.ts';
import { type Disk, makeImage } from '../../lab/guest.ts';
import { Libvirtd } from '../../lab/libvirtd.ts';
import { lockOn } from '../../lab/observe.ts';
import { eventually } from '../../lab/process.ts';
import type { DaemonKind, Generation } from '../../lab/generation.ts';
import type { Lab } from '../../lab/root.ts';
import { openLab } from '../../lab/trees.ts';
import { lock } from '../../lab/wire.ts';

/** The configuration of a lock daemon: this project's speaks as that libvirt; C daemons ignore it. */
export const speakingAs = (generation: Generation): string => `libvirt_version = "${generation}"\n`;

/** Links libvirt's socket paths in another lab to the daemon's sockets. */
export function reach(daemon: LockDaemon, lab: Lab): void {
  mkdirSync(lab.outside('/run/libvirt'), { recursive: true });
  symlinkSync(daemon.socket, lab.outside('/run/libvirt/virtlockd-sock'));
  symlinkSync(daemon.adminSocket, lab.outside('/run/libvirt/virtlockd-admin-sock'));
}

export class Scene {
  /** Images, leases and lock files: the same directory for libvirtd, QEMU and the lock daemon. */
  readonly storage: string;
  readonly #kind: DaemonKind;
  readonly #configuration: string;
  readonly #home: Lab;
  readonly #lab: Lab;
  #daemon: LockDaemon;
  #libvirtd: Libvirtd;
  #count = 0;

  private constructor(
    storage: string,
    kind: DaemonKind,
    configuration: string,
    home: Lab,
    lab: Lab,
    daemon: LockDaemon,
  ) {
    this.storage = storage;
    this.#kind = kind;
    this.#configuration = configuration;
    this.#home = home;
    this.#lab = lab;
    this.#daemon = daemon;
    this.#libvirtd = new Libvirtd(lab);
  }

  /** @param generation of libvirtd, virsh and QEMU */
  static async open(kind: DaemonKind, generation: Generation): Promise<Scene> {
    const storage = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-interop-'));
    chmodSync(storage, 0o755);
    mkdirSync(join(storage, 'indirect'), { mode: 0o700 });
    const home = await openLab(kind, [storage]);
    try {
      const lab = await openLab(generation, [storage]);
      const configuration = speakingAs(generation);
      const daemon = await startDaemon(kind, { lab: home, configuration });
      reach(daemon, lab);
      const scene = new Scene(storage, kind, configuration, home, lab, daemon);
      await scene.libvirtd.start();
      return scene;
    } catch (error) {
      await home.close();
      rmSync(storage, { recursive: true, force: true });
      throw error;
    }
  }

  get daemon(): LockDaemon {
    return this.#daemon;
  }

  get libvirtd(): Libvirtd {
    return this.#libvirtd;
  }

  /** The directory of the indirect lockspace, once `useLockspace` has been called with true. */
  get indirect(): string {
    return join(this.storage, 'indirect');
  }

  /** Restarts libvirtd with locks in the indirect lockspace, or on the disks themselves. */
  async useLockspace(indirect: boolean): Promise<void> {
    await this.#libvirtd.stop();
    this.#libvirtd = new Libvirtd(this.#lab, indirect ? { fileLockspace: this.indirect } : {});
    await this.#libvirtd.start();
  }

  /** Starts the lock daemon again after its end. */
  async startAgain(): Promise<void> {
    if (this.#daemon.process.finished === undefined) throw new Error('the lock daemon is still running');
    this.#daemon = await startDaemon(this.#kind, { lab: this.#home, configuration: this.#configuration });
  }

  /** Makes an empty image. */
  image(): string {
    return makeImage(this.storage, `disk${++this.#count}.img`);
  }

  /** Starts a guest with these disks and returns its QEMU's pid. @throws Error with virsh's message when it does not start */
  async run(name: string, ...disks: readonly Disk[]): Promise<number> {
    return this.#libvirtd.run({ name, disks });
  }

  async virsh(...args: readonly string[]): Promise<void> {
    await this.#libvirtd.must(...args);
  }

  /** The daemon's lock on a file, as 'WRITE 0 0', or 'none'. */
  lockOn(path: string): string {
    return lockOn(this.#daemon.pid, path) ?? 'none';
  }

  /** Waits until the daemon has no lock on a file: a release follows shortly after a guest's end. */
  async freed(path: string, limit = 5_000): Promise<void> {
    await eventually(`no lock on ${path}`, () => this.lockOn(path) === 'none', limit);
  }

  /** Makes a lockspace with one resource, as an administrator's tool would. */
  async prepare(space: string, key: string): Promise<void> {
    const tool = await this.#daemon.connect();
    try {
      await tool.must(lock.register({ pid: 5_000_000 }));
      const answer = await tool.ask(lock.createLockspace(space));
      if (answer !== undefined && !(answer.message ?? '').includes('already exists')) throw new Error(answer.message);
      await tool.must(lock.createResource(space, key));
    } finally {
      tool.close();
    }
  }

  /** Ends every guest, and starts the lock daemon if it has ended. */
  async tidy(): Promise<void> {
    for (const guest of await this.#libvirtd.guests()) await this.#libvirtd.virsh('destroy', guest);
    if (this.#daemon.process.finished !== undefined) await this.startAgain();
  }

  async close(): Promise<void> {
    await this.#libvirtd.stop();
    await this.#daemon.stop();
    await this.#lab.close();
    await this.#home.close();
    rmSync(this.storage, { recursive: true, force: true });
  }
}
