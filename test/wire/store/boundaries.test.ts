/** Kills the daemon as it enters a system call, at each system call of an acquire and a release. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceManager } from '../../../src/lab/manager.ts';
import { eventually } from '../../../src/lab/process.ts';
import { autocreate, type Call, lock, type Peer } from '../../../src/lab/wire.ts';

/** Kills a process at its nth system call of a kind, counted from now on. */
class Killer {
  private readonly strace: ChildProcess;
  private readonly ended: Promise<unknown>;

  private constructor(strace: ChildProcess) {
    this.strace = strace;
    this.ended = once(strace, 'exit');
  }

  static async at(pid: number, call: string, count: number): Promise<Killer> {
    const inject = `--inject=${call}:signal=KILL:when=${count}`;
    const strace = spawn('strace', ['-p', String(pid), `--trace=${call}`, inject, '-o', '/dev/null'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const killer = new Killer(strace);
    await once(strace.stderr, 'data');
    return killer;
  }

  async letGo(): Promise<void> {
    if (this.strace.exitCode === null && this.strace.signalCode === null) this.strace.kill('SIGINT');
    await this.ended;
  }
}

/** The system calls of an acquire and a release, and how often each is made at most. */
const CALLS: Readonly<Record<string, number>> = {
  recvmsg: 1,
  openat: 1,
  statx: 4,
  fcntl: 2,
  sendmsg: 2,
  unlink: 1,
  close: 1,
  sendto: 1,
};

describe('a daemon that is killed during a call', function () {
  this.timeout(300_000);
  let directory: string;
  let manager: ServiceManager;
  let pid: number;
  let owner: ChildProcess;
  let rival: Peer;
  let file: string;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-store-'));
    file = join(directory, 'lease');
    manager = new ServiceManager(directory, { env: { FDSTORE: '4096' } });
    ({ pid = 0 } = await manager.next('ready'));
    owner = spawn('sleep', ['1000']);
    rival = await manager.connect();
    await rival.must(lock.register({ pid: 4_194_306 }));
  });
  afterEach(async () => {
    owner.kill('SIGKILL');
    rival.close();
    await manager.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** A client that registers the owner, as libvirtd does. */
  async function client(): Promise<Peer> {
    const peer = await manager.connect();
    await peer.must(lock.register({ pid: owner.pid ?? 0 }));
    return peer;
  }

  /** Makes a call during which the daemon is killed. True when the daemon answered with success, false when the connection ended. */
  async function callUnder(peer: Peer, call: Call, syscall: string, count: number): Promise<boolean> {
    const killer = await Killer.at(pid, syscall, count);
    let isAnswered: boolean;
    try {
      await peer.must(call);
      isAnswered = true;
    } catch (error) {
      assert.match((error as Error).message, /closed instead of a reply/);
      isAnswered = false;
    }
    await killer.letGo();
    if (isProcess(pid)) assert(isAnswered);
    else ({ pid = 0 } = await manager.next('ready'));
    return isAnswered;
  }

  function isProcess(number: number): boolean {
    try {
      process.kill(number, 0);
      return true;
    } catch {
      return false;
    }
  }

  const isRefused = async (): Promise<boolean> =>
    ((await rival.ask(lock.acquire('', file, autocreate)))?.message ?? '').includes('is locked');

  for (const [syscall, most] of Object.entries(CALLS)) {
    it(`at ${syscall} leaves a lock to its owner, and to no other client`, async () => {
      for (let count = 1; count <= most; count++) {
        let peer = await client();
        const acquire = lock.acquire('', file, autocreate);
        if (!(await callUnder(peer, acquire, syscall, count))) {
          peer.close();
          peer = await client();
          await peer.must(acquire);
        }
        assert(await isRefused(), `acquired, ${syscall} ${count}`);
        const release = lock.release('', file);
        if (!(await callUnder(peer, release, syscall, count))) {
          peer.close();
          peer = await client();
          // The first call may have released it, so the result does not matter.
          await peer.ask(release);
        }
        await rival.must(acquire);
        await rival.must(release);
        peer.close();
      }
      const names = await eventually('nothing is left in the store', async () => {
        const stored = await manager.stored();
        return stored.filter((name) => name.startsWith('F')).length === 0 && stored;
      });
      assert(names.length <= 6, names.join());
    });
  }

  it('in an acquire that may have been answered ends the lock with its owner', async () => {
    const peer = await client();
    assert(!(await callUnder(peer, lock.acquire('', file, autocreate), 'sendto', 1)));
    assert(await isRefused());
    owner.kill('SIGKILL');
    await eventually('the lock is free', async () => !(await isRefused()));
  });
});
