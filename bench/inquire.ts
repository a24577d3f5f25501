/**
 * What inquiries cost: `npm run bench:inquire`. Fills a daemon of its own with 100 000 locks and measures how long
 * `virt-lockctl list --json`, `who` and `check` take, and how long another client waits for its answers meanwhile.
 *
 * A process may have fewer descriptors than that: then most locks are shared ones under several names of one file, which
 * take one descriptor for all.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from '../src/client/client.ts';
import { AcquireFlag, lockProgram } from '../xdr/programs/lock.ts';

const LOCKS = Number(process.env.LOCKS ?? 100_000);
/** Names of one file; file systems take 65 000 at least. */
const NAMES = 1000;
const ROUNDS = Number(process.env.ROUNDS ?? 5);
const checkout = path.resolve(import.meta.dirname, '..');
const uuid = Buffer.alloc(16, 7);

const root = mkdtempSync(path.join(tmpdir(), 'virtlockd-inquire-'));
const daemon = spawn(path.join(checkout, 'bin/virtlockd'), ['--root', root], {
  stdio: ['ignore', 'ignore', 'inherit'],
});
const sockets = path.join(root, 'run/libvirt');

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

async function connect(owner: number): Promise<Client> {
  for (let attempt = 0; ; attempt++) {
    try {
      const client = await Client.connect(path.join(sockets, 'virtlockd-sock'));
      await client.call(lockProgram, 'register', {
        owner: { uuid, name: `guest${owner}`, id: owner, pid: owner },
        flags: 0,
      });
      return client;
    } catch (error) {
      if (attempt === 200) throw error;
      await pause(20);
    }
  }
}

/** Locks everything, with a hundred owners, and one disk more. Returns a name of many and the only one of that. */
async function fill(): Promise<{ many: string; single: string }> {
  const directory = path.join(root, 'images');
  mkdirSync(directory);
  let name = '';
  for (let owner = 0; owner * NAMES < LOCKS; owner++) {
    const client = await connect(5_000_000 + owner);
    const first = path.join(directory, `disk-of-guest-${owner}-0.img`);
    writeFileSync(first, '');
    const calls: Promise<unknown>[] = [];
    for (let index = 0; index < NAMES; index++) {
      name = path.join(directory, `disk-of-guest-${owner}-${index}.img`);
      if (index > 0) linkSync(first, name);
      calls.push(client.call(lockProgram, 'acquireResource', { path: '', name, flags: AcquireFlag.SHARED }));
    }
    await Promise.all(calls);
    client.close();
  }
  const single = path.join(directory, 'disk-of-its-own.img');
  writeFileSync(single, '');
  const client = await connect(4_999_998);
  await client.call(lockProgram, 'acquireResource', { path: '', name: single, flags: 0 });
  client.close();
  return { many: name, single };
}

/** Acquires and releases without pause, and remembers the longest wait for an answer, in milliseconds. */
class Prober {
  private stopped = false;
  private longest = 0;
  private readonly done: Promise<void>;

  constructor(client: Client, name: string) {
    this.done = this.run(client, name);
  }

  /** The longest wait since the last time. */
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

/** Runs the tool; milliseconds until its end and the bytes it printed. */
async function measure(args: readonly string[]): Promise<{ ms: number; bytes: number }> {
  const begin = performance.now();
  const tool = spawn(path.join(checkout, 'bin/virt-lockctl'), ['--connect', sockets, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let bytes = 0;
  tool.stdout.on('data', (chunk: Buffer) => (bytes += chunk.length));
  await once(tool, 'close');
  return { ms: performance.now() - begin, bytes };
}

try {
  const { many, single } = await fill();
  const client = await connect(4_999_999);
  const prober = new Prober(client, path.join(root, 'probe'));
  await pause(500);
  prober.take();
  await pause(2000);
  process.stdout.write(`${LOCKS} locks\n`);
  process.stdout.write(`${'nothing'.padEnd(28)} ${''.padStart(7)}      longest wait ${prober.take().toFixed(1)} ms\n`);
  const loads: readonly (readonly [string, readonly string[]])[] = [
    ['list --json', ['list', '--json']],
    ['who (a disk)', ['who', single]],
    [`who (a disk of ${NAMES} names)`, ['who', many]],
    ['who (nothing)', ['who', '/none']],
    ['list --vm', ['list', '--vm', 'guest5000042']],
    ['status', ['status']],
    ['check', ['check']],
  ];
  for (const [what, args] of loads) {
    const times: number[] = [];
    const waits: number[] = [];
    let bytes = 0;
    for (let round = 0; round < ROUNDS; round++) {
      prober.take();
      const result = await measure(args);
      ({ bytes } = result);
      times.push(result.ms);
      waits.push(prober.take());
    }
    const worst = Math.max(...waits).toFixed(1);
    process.stdout.write(
      `${what.padEnd(28)} ${median(times).toFixed(0).padStart(6)} ms, longest wait ${median(waits).toFixed(1)} ms (worst of ${ROUNDS}: ${worst} ms), ${bytes} bytes\n`,
    );
  }
  await prober.stop();
  client.close();
} finally {
  const ended = once(daemon, 'exit');
  daemon.kill('SIGTERM');
  await ended;
  rmSync(root, { recursive: true, force: true });
}
