/** The machine as a host: its lock daemon below a service manager with a descriptor store, its guard, and owners of locks. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ServiceManager } from '../../../../src/lab/manager.ts';
import { eventually, executeAgain } from '../../../../src/lab/process.ts';
import { autocreate, lock, type Peer } from '../../../../src/lab/wire.ts';
import { LEASE_SECONDS, type Plan, SPACE } from '../plan.ts';
import { DEVICE } from './device.ts';

/** Emulation makes everything some twenty times slower. */
export const PATIENCE = 120_000;

/** Runs a program. @throws Error when it fails */
export async function command(program: string, ...args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (output += data.toString('latin1')));
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${String(code)}, ${output}`);
  return output;
}

function stateOf(pid: number): string | undefined {
  try {
    return /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  } catch {
    return undefined;
  }
}

/** A guest: a process, and libvirtd's connection for it. */
export class Owner {
  readonly pid: number;
  private readonly child: ChildProcess;
  private readonly peer: Peer;

  constructor(child: ChildProcess, peer: Peer) {
    this.child = child;
    this.pid = child.pid ?? 0;
    this.peer = peer;
  }

  async acquire(name: string): Promise<void> {
    await this.peer.must(lock.acquire(SPACE, name, autocreate));
  }

  async release(name: string): Promise<void> {
    await this.peer.must(lock.release(SPACE, name));
  }

  get lives(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Has it write into the file system that is frozen, and waits until it sleeps there for good. */
  async block(): Promise<void> {
    this.child.stdin?.write('go\n');
    await eventually('the owner cannot be killed', () => stateOf(this.pid) === 'D', PATIENCE);
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}

const hosts: Host[] = [];

export class Host {
  pid = 0;
  private readonly owners: Owner[] = [];
  private readonly manager: ServiceManager;

  private constructor(manager: ServiceManager) {
    this.manager = manager;
  }

  /** Returns when the daemon serves. @param enter the words before its command */
  static async open(
    { endpoint }: Plan,
    { fence = 'kill', enter = [] }: { readonly fence?: 'kill' | 'reboot'; readonly enter?: readonly string[] } = {},
  ): Promise<Host> {
    const directory = mkdtempSync('/tmp/host-');
    const file = join(directory, 'virtlockd.conf');
    const configuration = `etcd_endpoints = [ "${endpoint}" ]
etcd_lockspaces = [ "${SPACE}" ]
etcd_lease_seconds = ${LEASE_SECONDS}
etcd_watchdog = "${DEVICE}"
etcd_fence = "${fence}"
`;
    writeFileSync(file, configuration);
    const program = '/checkout/bin/virtlockd';
    const host = new Host(new ServiceManager(directory, { program, args: ['--config', file], enter }));
    hosts.push(host);
    await host.served();
    return host;
  }

  /** Ends what a scene that was broken off has left: its guard would keep the device. */
  static async closeAll(): Promise<void> {
    for (const host of hosts.splice(0)) await host.close();
  }

  get log(): string {
    return this.manager.log;
  }

  /** The guard's pid. */
  get guard(): number {
    const found = readdirSync('/proc').filter((one) => {
      try {
        return /^[0-9]+$/.test(one) && readFileSync(`/proc/${one}/comm`, 'latin1') === 'virtlockd-guard\n';
      } catch {
        return false;
      }
    });
    return Number(found.find((one) => stateOf(Number(one)) !== 'Z') ?? 0);
  }

  async owner(): Promise<Owner> {
    // It ends when it is told to, as any process that the kernel lets.
    const child = spawn('sh', ['-c', 'read go; echo written >/run/frozen/disk; sleep 1000000'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    const peer = await this.manager.connect();
    await peer.must(lock.register({ pid: child.pid ?? 0, name: 'guest' }));
    await peer.must(lock.createLockspace(SPACE));
    const owner = new Owner(child, peer);
    this.owners.push(owner);
    return owner;
  }

  /** Kinds of what `virt-lockctl health` finds. */
  async findings(): Promise<string[]> {
    const words = ['--connect', this.manager.socket, 'health', '--json'];
    const child = spawn('/checkout/bin/virt-lockctl', words, { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString('latin1')));
    await new Promise((resolve) => child.once('close', resolve));
    return (JSON.parse(output) as { findings: { kind: string }[] }).findings.map(({ kind }) => kind);
  }

  /** SIGUSR1. */
  async restart(): Promise<void> {
    await executeAgain(this.pid, PATIENCE);
    await this.answers();
  }

  /** kill -9. Returns when the next one serves. */
  async die(): Promise<void> {
    process.kill(this.pid, 'SIGKILL');
    await this.manager.next('ended', PATIENCE);
    await this.served();
  }

  /** Sends a signal to the guard, and waits until another one has taken its place. */
  async replaceGuard(signal: 'SIGKILL' | 'SIGSTOP'): Promise<void> {
    const former = this.guard;
    process.kill(former, signal);
    await eventually('another guard runs', () => this.guard !== former && this.guard !== 0, PATIENCE);
  }

  /** Ends the owners that there are still, and the daemon in order. */
  async close(): Promise<void> {
    for (const owner of this.owners) owner.kill();
    await this.manager.close();
  }

  private async served(): Promise<void> {
    ({ pid: this.pid = 0 } = await this.manager.next('ready', PATIENCE));
    await this.answers();
  }

  private async answers(): Promise<void> {
    await eventually(
      'the daemon answers',
      async () => {
        const peer = await this.manager.connect();
        await peer.ask(lock.restrict());
        peer.close();
        return true;
      },
      PATIENCE,
    );
  }
}
