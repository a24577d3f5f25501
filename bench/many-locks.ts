/**
 * A daemon with very many locks. They are shared locks under several names of each file, which need one descriptor for each file:
 * a process may have fewer descriptors than these locks.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from '../src/client/client.ts';
import { AcquireFlag, lockProgram } from '../xdr/programs/lock.ts';

/** Names of one file. File systems allow at least 65 000. */
export const NAMES = 1000;
export const checkout = path.resolve(import.meta.dirname, '..');
const uuid = Buffer.alloc(16, 7);

/** Connects as soon as the daemon listens, and registers the owner with that pid. */
async function connectOwner(sockets: string, pid: number): Promise<Client> {
  for (let attempt = 0; ; attempt++) {
    try {
      const client = await Client.connect(path.join(sockets, 'virtlockd-sock'));
      await client.call(lockProgram, 'register', { owner: { uuid, name: `guest${pid}`, id: pid, pid }, flags: 0 });
      return client;
    } catch (error) {
      if (attempt === 200) throw error;
      await pause(20);
    }
  }
}

/** Acquires that many shared locks on files in the directory. Returns the name of one. */
async function holdShared(client: Client, directory: string, count: number, guest: string): Promise<string> {
  let name = '';
  for (let from = 0; from < count; from += NAMES) {
    const nameOf = (index: number): string => path.join(directory, `disk-of-${guest}-${from + index}.img`);
    writeFileSync(nameOf(0), '');
    const calls: Promise<unknown>[] = [];
    for (let index = 0; index < Math.min(NAMES, count - from); index++) {
      name = nameOf(index);
      if (index > 0) linkSync(nameOf(0), name);
      calls.push(client.call(lockProgram, 'acquireResource', { path: '', name, flags: AcquireFlag.SHARED }));
    }
    await Promise.all(calls);
  }
  return name;
}

export class ManyLocks {
  readonly root = mkdtempSync(path.join(tmpdir(), 'virtlockd-many-'));
  readonly sockets = path.join(this.root, 'run/libvirt');
  /** Where the locked files are. */
  readonly images = path.join(this.root, 'images');
  private readonly daemon: ChildProcess;

  constructor() {
    mkdirSync(this.images);
    this.daemon = spawn(path.join(checkout, 'bin/virtlockd'), ['--root', this.root], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }

  async connect(pid: number): Promise<Client> {
    return connectOwner(this.sockets, pid);
  }

  /** Acquires that many locks, a thousand for each owner. No owner is a process. Returns the name of one. */
  async fill(count: number): Promise<string> {
    let name = '';
    for (let owner = 0; owner * NAMES < count; owner++) {
      const client = await this.connect(5_000_000 + owner);
      name = await holdShared(client, this.images, Math.min(NAMES, count - owner * NAMES), `guest-${owner}`);
      client.close();
    }
    return name;
  }

  async stop(): Promise<void> {
    const ended = once(this.daemon, 'exit');
    this.daemon.kill('SIGTERM');
    await ended;
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Acquires and releases without pause, and measures the longest wait for an answer, in milliseconds. */
export class Prober {
  private stopped = false;
  private longest = 0;
  private readonly done: Promise<void>;

  constructor(client: Client, name: string) {
    this.done = this.run(client, name);
  }

  /** The longest wait since the last call. */
  take(): number {
    const { longest } = this;
    this.longest = 0;
    return longest;
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.done;
  }

  private async run(client: Client, name: string): Promise<void> {
    while (!this.stopped) {
      for (const call of ['acquireResource', 'releaseResource'] as const) {
        const begin = performance.now();
        const flags = call === 'acquireResource' ? AcquireFlag.AUTOCREATE : 0;
        await client.call(lockProgram, call, { path: '', name, flags });
        this.longest = Math.max(this.longest, performance.now() - begin);
      }
    }
  }
}
