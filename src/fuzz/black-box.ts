/** A real daemon, of this project or C, in a lab of its own. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type LockDaemon, programOf, startDaemon } from '../../test/lab/daemon.ts';
import type { DaemonKind } from '../../test/lab/requirements.ts';
import { client } from './client.ts';
import { encodeCall } from './steps.ts';
import type { Link, Target } from './target.ts';
import { wipe } from './world.ts';

const { EAGAIN } = os.constants.errno;
const RESTART_MOST_MS = 15_000;
const into = Buffer.alloc(256 * 1024);
const sleeper = new Int32Array(new SharedArrayBuffer(4));

function sleep(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms);
}

class SocketLink implements Link {
  private readonly fd: number;
  private readonly patience: number;

  constructor(fd: number, patience: number) {
    this.fd = fd;
    this.patience = patience;
  }

  send(bytes: Buffer, descriptors: number): void {
    client.send(this.fd, bytes, Array<number>(descriptors).fill(0), this.patience);
  }

  receive(limit: number): Buffer | 'closed' | null {
    const got = client.receive(this.fd, into, 0, limit);
    if (got > 0) return Buffer.from(into.subarray(0, got));
    return got === -EAGAIN ? null : 'closed';
  }

  finish(): void {
    client.finish(this.fd);
  }

  close(): void {
    client.close(this.fd);
  }
}

export class BlackBox implements Target {
  readonly name: string;
  readonly peer = process.pid;
  readonly patience = 3000;
  private readonly kind: DaemonKind;
  private readonly speaking: string;
  private daemon: LockDaemon | undefined;
  private lockspaces = new Set<string>();

  /** @param speaking the version whose dialect ours speaks */
  constructor(kind: DaemonKind, speaking = '12.8.0') {
    this.kind = kind;
    this.speaking = speaking;
    this.name = kind;
  }

  private get running(): LockDaemon {
    if (this.daemon === undefined) throw new Error('not started');
    return this.daemon;
  }

  get base(): string {
    return join(this.running.lab.directory, 'w');
  }

  get pid(): number {
    return this.running.pid;
  }

  get known(): ReadonlySet<string> {
    return this.lockspaces;
  }

  async reset(): Promise<void> {
    await this.stop();
    // Its working directory is where a run's files are; the path does not exist before the lab does.
    const script = 'mkdir -p "$1"/w; cd "$1"/w && exec "$2"';
    const { Lab } = await import('../../test/lab/root.ts');
    const lab = await Lab.open(this.kind === 'ours' ? '9.0.0' : this.kind);
    const dialect = this.kind === 'ours' ? `libvirt_version = "${this.speaking}"\n` : '';
    const configuration = `max_clients = 2000\n${dialect}`;
    this.daemon = await startDaemon(this.kind, {
      lab,
      configuration,
      program: '/bin/sh',
      args: ['-c', script, 'sh', lab.directory, programOf(this.kind)],
    });
    mkdirSync(this.base, { recursive: true });
    this.lockspaces = new Set();
    // C answers the first connections of its life oddly while it is still starting.
    await pause(this.kind === 'ours' ? 0 : 200);
  }

  async stop(): Promise<void> {
    const { daemon } = this;
    this.daemon = undefined;
    if (daemon === undefined) return;
    await daemon.stop('SIGKILL');
    await daemon.lab.close();
  }

  open(): Link | null {
    const fd = client.connect(this.running.socket);
    return fd < 0 ? null : new SocketLink(fd, this.patience);
  }

  restart(): string | null {
    const image = (): string => {
      try {
        return readFileSync(`/proc/${this.pid}/auxv`, 'latin1');
      } catch {
        return '';
      }
    };
    const before = image();
    try {
      process.kill(this.pid, 'SIGUSR1');
    } catch {
      return 'it is dead before SIGUSR1';
    }
    const until = performance.now() + RESTART_MOST_MS;
    while (performance.now() < until) {
      if (this.death() !== null) return 'it ended at SIGUSR1';
      const now = image();
      if (now !== before && now !== '') return null;
      sleep(2);
    }
    return 'it did not execute itself again';
  }

  death(): string | null {
    try {
      const stat = readFileSync(`/proc/${this.pid}/stat`, 'latin1');
      return stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z') ? 'the daemon is dead' : null;
    } catch {
      return 'the daemon is gone';
    }
  }

  descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  memory(): number {
    const [, resident = '0'] = readFileSync(`/proc/${this.pid}/statm`, 'latin1').split(' ');
    return Number(resident) * 4096;
  }

  settle(held: Parameters<Target['settle']>[0], lockspaces: readonly string[]): void {
    if (held.length > 0) this.release(held);
    this.lockspaces = new Set(lockspaces);
    wipe(this.base);
  }

  private release(held: Parameters<Target['settle']>[0]): void {
    const link = this.open();
    if (link === null) return;
    for (const { lockspace: path, name, owners } of held) {
      for (const pid of owners) {
        const owner = { uuid: '00'.repeat(16), name: '', id: 1, pid };
        link.send(encodeCall('register', { owner, flags: 0 }, 1, '~'), 0);
        link.receive(this.patience);
        link.send(encodeCall('releaseResource', { path, name, flags: 0 }, 1, '~'), 0);
        link.receive(this.patience);
      }
    }
    link.close();
  }
}
