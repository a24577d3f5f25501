/** Our daemon at the path of libvirt's, which lies beside it, in a root of its own; with a lock that no restart may lose. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import {
  type DaemonOptions,
  type LockDaemon,
  programOf,
  reexecute,
  startDaemon,
  displace,
} from '../../../src/lab/start.ts';
import { eventually, programImage } from '../../../src/lab/process.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';

export const STATE = '/run/virtlockd-restart-exec.json';
/** No process has this number. */
export const NOBODY = 4_200_000;

export class AtPath {
  readonly daemon: LockDaemon;
  /** A client that holds {@link name}. */
  readonly holder: Peer;
  readonly name: string;

  private constructor(daemon: LockDaemon, holder: Peer, name: string) {
    this.daemon = daemon;
    this.holder = holder;
    this.name = name;
  }

  /** @param prepare called before the start */
  static async open(
    options: Omit<DaemonOptions, 'lab' | 'program'> = {},
    prepare: (lab: Lab) => unknown = () => undefined,
  ): Promise<AtPath> {
    const lab = await openLab();
    try {
      displace(lab, programOf('ours'));
      await prepare(lab);
      const daemon = await startDaemon('ours', { ...options, lab, program: PROGRAM });
      const holder = await daemon.connect();
      await holder.must(lock.register({ pid: NOBODY, name: 'holder' }));
      const name = `${lab.directory}/held`;
      await holder.must(lock.acquire('', name, autocreate));
      return new AtPath(daemon, holder, name);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  get lab(): Lab {
    return this.daemon.lab;
  }

  async close(): Promise<void> {
    await this.daemon.stop();
    await this.lab.close();
  }

  /** Puts another program at the path. */
  install(program: string): void {
    this.lab.install(program);
  }

  /** The log lines about programs that were not executed. */
  refusals(): string[] {
    return this.daemon.log.split('\n').filter((line) => line.includes('Unable to re-execute'));
  }

  /** Sends SIGUSR1 and waits for the refusal; everything must be as it was. */
  async refused(pattern: RegExp): Promise<void> {
    const { daemon, lab } = this;
    const before = this.refusals().length;
    const locks = daemon.locks();
    const program = programImage(daemon.pid);
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('the refusal is logged', () => this.refusals().length > before, 20_000);
    assert.equal(this.refusals().length, before + 1);
    assert.match(this.refusals().at(-1) ?? '', pattern);
    assert.equal(programImage(daemon.pid), program, 'the same program runs');
    assert.deepEqual(daemon.locks(), locks);
    await this.holds();
    const newcomer = await daemon.connect();
    await newcomer.must(lock.register({ pid: NOBODY + 1, name: 'newcomer' }));
    newcomer.close();
    for (const file of [STATE, `${STATE}.new`])
      assert.ok(!existsSync(lab.outside(file)) || pattern.source.includes('remove it'));
  }

  /** Sends SIGUSR1 and waits for the new program, which must have the lock. */
  async executedAgain(): Promise<void> {
    await reexecute(this.daemon);
    await this.holds();
  }

  async holds(): Promise<void> {
    assert.equal((await this.holder.ask(lock.acquire('', this.name)))?.code, 87);
  }
}
