/** A C lock daemon at work in a fresh tree: locks held by stand-in owners, and the package's comings and goings. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type LockDaemon, startDaemon } from '../../src/lab/start.ts';
import type { LockRow } from '../../src/lab/observe.ts';
import { type Finished, programImage } from '../../src/lab/process.ts';
import type { Lab } from '../../src/lab/root.ts';
import { adminProgram, lock, Peer, shared, text, u32 } from '../../src/lab/wire.ts';
import { PROGRAM } from '../../src/libvirt/paths.ts';
import { openRelease, type Release } from './trees.ts';

export class Scene {
  readonly lab: Lab;
  readonly daemon: LockDaemon;
  /** A registered connection from before everything, whose owner holds four leases. */
  readonly holder: Peer;

  private constructor(lab: Lab, daemon: LockDaemon, holder: Peer) {
    this.lab = lab;
    this.daemon = daemon;
    this.holder = holder;
  }

  /** @param prepare changes the lab before the daemon starts */
  static async open(release: Release, prepare?: (lab: Lab) => Promise<unknown>): Promise<Scene> {
    const lab = await openRelease(release);
    try {
      await prepare?.(lab);
      const daemon = await startDaemon(release.generation, { lab });
      const holder = await daemon.connect();
      await holder.must(lock.register({ pid: 5_000_000, name: 'stand-in' }));
      const leases = join(lab.directory, 'leases');
      await holder.must(lock.createLockspace(leases));
      await holder.must(lock.createResource(leases, 'one'));
      await holder.must(lock.acquire(leases, 'one'));
      for (const name of ['plain', 'read']) writeFileSync(join(lab.directory, name), '');
      await holder.must(lock.acquire('', join(lab.directory, 'plain')));
      await holder.must(lock.acquire('', join(lab.directory, 'read'), shared));
      await holder.must(lock.acquire('', join(lab.directory, 'read'), shared));
      return new Scene(lab, daemon, holder);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    this.holder.close();
    await this.lab.close();
  }

  /** All it holds but its pid file. */
  locks(): LockRow[] {
    const { ino } = statSync(this.lab.outside('/run/virtlockd.pid'));
    return this.daemon.locks().filter(({ inode }) => inode !== ino);
  }

  /** The program that runs in the daemon's process: libvirt's or this package's; undefined when the process has ended. */
  runs(): 'c' | 'own' | undefined {
    if (this.daemon.process.finished !== undefined) return undefined;
    return readlinkSync(`/proc/${this.daemon.pid}/exe`).includes('/usr/lib/virtlockd-node/') ? 'own' : 'c';
  }

  /** Differs after every exec. */
  image(): string {
    return programImage(this.daemon.pid);
  }

  async run(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Finished> {
    return this.lab.run(command, args, { env: { DEBIAN_FRONTEND: 'noninteractive', ...env } });
  }

  /** As run. Returns the output. @throws AssertionError with it when the status is another */
  async must(command: string, args: readonly string[], status = 0): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, args);
    assert.equal(code, status, `${command} ${args.join(' ')}:\n${stdout}${stderr}`);
    return stdout + stderr;
  }

  /** Whether the holder's connection works, and its lease is refused to others. */
  async assertServes(): Promise<void> {
    writeFileSync(join(this.lab.directory, 'more'), '');
    await this.holder.must(lock.acquire('', join(this.lab.directory, 'more')));
    await this.holder.must(lock.release('', join(this.lab.directory, 'more')));
    const other = await this.daemon.connect();
    await other.must(lock.register({ pid: 5_000_001, name: 'other' }));
    assert.equal((await other.ask(lock.acquire('', join(this.lab.directory, 'plain'))))?.code, 87);
    other.close();
  }

  /** The lock server's limit on clients, by the admin program. */
  async maxClients(): Promise<number> {
    const admin = await Peer.connect(this.daemon.adminSocket);
    const payload = Buffer.concat([text('virtlockd'), u32(0)]);
    const reply = await admin.call({ program: adminProgram, procedure: 12, payload });
    admin.close();
    const field = text('nclients_max');
    return reply.payload.readUInt32BE(reply.payload.indexOf(field) + field.length + 4);
  }

  /** Files that a killed swap may leave behind, but a completed one must not. */
  leftovers(): string[] {
    const run = readdirSync(this.lab.outside('/run')).filter((name) => name.startsWith('virtlockd-'));
    const sbin = readdirSync(this.lab.outside('/usr/sbin')).filter((name) => name.startsWith('virtlockd.'));
    return [...run, ...sbin];
  }

  /** Asserts that no trace of the package is left, and that libvirt's program is dpkg's again. */
  async assertGone(): Promise<void> {
    assert.deepEqual(this.leftovers(), []);
    assert.equal(existsSync(this.lab.outside('/usr/lib/virtlockd-node')), false);
    assert.equal(await this.must('dpkg-divert', ['--list', '*virtlockd*']), '');
    assert.equal((await this.run('sh', ['-c', 'ls /etc/systemd/system/virtlockd*'])).stdout, '');
    assert.match(await this.must(PROGRAM, ['--version']), /\(libvirt\) (?:9\.0\.0|11\.3\.0)\n$/);
  }
}
