/** A daemon, a storage that can be made to hang, and owners that no process has. */
import assert from 'node:assert/strict';
import { HangingStorage, type StorageOptions } from '../../../src/lab/hanging-storage.ts';
import { displace, type LockDaemon, programOf, startDaemon } from '../../../src/lab/start.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';

/** Above every pid there can be: its end kills nobody. */
export const NOBODY = 4_200_000;
export const BUSY = 87;

interface SceneOptions extends StorageOptions {
  /** Which daemon. `displaced`: this project's, at the path of libvirt's. */
  readonly from?: 'ours' | 'displaced' | '9.0.0';
  /** Of the daemon. */
  readonly configuration?: string;
}

export class StorageScene {
  readonly daemon: LockDaemon;
  /** A test may put another one at its place. */
  storage: HangingStorage;
  private others = 0;

  private constructor(daemon: LockDaemon, storage: HangingStorage) {
    this.daemon = daemon;
    this.storage = storage;
  }

  static async open({ from = 'ours', configuration = '', ...options }: SceneOptions = {}): Promise<StorageScene> {
    const lab = await openLab();
    if (from === 'displaced') displace(lab, programOf('ours'));
    const daemon = await (from === 'displaced'
      ? startDaemon('ours', { lab, program: PROGRAM, configuration })
      : startDaemon(from, { lab, configuration }));
    return new StorageScene(daemon, await HangingStorage.mountIn(lab, options));
  }

  async close(): Promise<void> {
    await this.storage.letGo();
    await this.storage.end();
    await this.daemon.stop();
    await this.daemon.lab.close();
  }

  get mount(): string {
    return this.storage.mount;
  }

  /** A client that has registered that owner. */
  async connect(name: string, pid = NOBODY): Promise<Peer> {
    const peer = await this.daemon.connect();
    await peer.must(lock.register({ pid, name }));
    return peer;
  }

  /** A newcomer gets a lock on a healthy disk, and gives it back. */
  async assertServed(): Promise<void> {
    const path = `${this.daemon.lab.directory}/local ${this.others++}`;
    const before = performance.now();
    const other = await this.connect('other', NOBODY + 1);
    await within(other.must(lock.acquire('', path, autocreate)));
    await other.must(lock.release('', path));
    other.close();
    assert.ok(performance.now() - before < 1000, 'others wait');
  }
}

/** @throws Error when there is no answer in time */
export async function within<T>(answer: Promise<T>, limit = 5000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(reject, limit, new Error(`no answer within ${limit / 1000} s`));
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
