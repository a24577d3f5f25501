/** A lock of a stand-in owner in a booted machine, and a watch that asks the kernel for it all the while. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lock, type Peer } from '../../src/lab/wire.ts';
import { Watch } from '../campaigns/deaths/watch.ts';
import type { Machine } from './machine.ts';

const BUSY = 87;

export class HeldLock {
  readonly image: string;
  readonly watch: Watch;
  private readonly machine: Machine;
  private holder: Peer;

  private constructor(machine: Machine, image: string, holder: Peer) {
    this.machine = machine;
    this.image = image;
    this.holder = holder;
    this.watch = new Watch([image]);
  }

  /** Has the machine's daemon grant the lock. */
  static async acquire(machine: Machine): Promise<HeldLock> {
    const image = join(machine.directory, 'image');
    writeFileSync(image, '');
    return new HeldLock(machine, image, await holderOf(machine, image));
  }

  /** After the daemon has ended, with its connections and locks. */
  async acquireAgain(): Promise<void> {
    this.holder.close();
    this.holder = await holderOf(this.machine, this.image);
  }

  async release(): Promise<void> {
    await this.holder.must(lock.release('', this.image));
  }

  assertNeverFree(): void {
    assert.deepEqual(this.watch.free, [], 'the lock was free');
  }

  /** The same connection and hold, no instant without the lock, and others served and refused. */
  async assertKept(): Promise<void> {
    const other = join(this.machine.directory, 'other');
    writeFileSync(other, '');
    await this.holder.must(lock.acquire('', other));
    await this.holder.must(lock.release('', other));
    this.assertNeverFree();
    const newcomer = await this.machine.connect();
    await newcomer.must(lock.register({ pid: 5_000_001, name: 'newcomer' }));
    assert.equal((await newcomer.ask(lock.acquire('', this.image)))?.code, BUSY);
    newcomer.close();
  }

  async end(): Promise<void> {
    this.holder.close();
    await this.watch.stop();
  }
}

async function holderOf(machine: Machine, image: string): Promise<Peer> {
  const holder = await machine.connect();
  await holder.must(lock.register({ pid: 5_000_000, name: 'stand-in' }));
  await holder.must(lock.acquire('', image));
  return holder;
}
