/** Hosts with a lock daemon each: labs with host names of their own. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { Daemon } from '../../src/lab/daemon.ts';
import { eventually, type Running } from '../../src/lab/process.ts';
import { PROGRAM } from '../../src/libvirt/paths.ts';
import type { Lab } from '../../src/lab/root.ts';
import { displace, type LockDaemon, programOf } from '../../src/lab/start.ts';
import { checkout, openLab } from '../../src/lab/trees.ts';
import { lock, type Peer } from '../../src/lab/wire.ts';

const program = join(checkout, 'bin/virt-lockctl');

/** What the daemon leaves out without an order. */
const CONFIGURATION = 'log_level = 1\nlog_outputs = "1:stderr"\n';

interface HostOptions {
  /** Which daemon. `displaced`: this project's, at the path of libvirt's. */
  readonly kind?: 'ours' | 'displaced' | '9.0.0';
  /** Further settings of the daemon. */
  readonly configuration?: string;
  /** Directories that it has in common with others. */
  readonly share?: readonly string[];
  /** Mounts what the daemon is to find. */
  readonly mount?: (lab: Lab) => Promise<void>;
}

export class Host {
  readonly daemon: LockDaemon;

  private constructor(daemon: LockDaemon) {
    this.daemon = daemon;
  }

  static async start(
    name: string,
    { kind = 'ours', configuration = '', share = [], mount }: HostOptions,
  ): Promise<Host> {
    const lab = await openLab(kind === '9.0.0' ? kind : 'ours', share);
    await mount?.(lab);
    if (kind === 'displaced') displace(lab, programOf('ours'));
    const path = kind === 'ours' ? programOf('ours') : PROGRAM;
    const command = ['unshare', '--uts', 'sh', '-c', 'hostname "$1"; shift; exec "$@"', 'sh', name, path];
    const daemon = Daemon.launch(lab, command, { configuration: CONFIGURATION + configuration });
    await daemon.accepts(name);
    return new Host(daemon);
  }

  async close(): Promise<void> {
    await this.daemon.stop();
    await this.daemon.lab.close();
  }

  /** A client that has registered a guest, and knows the lockspace. */
  async connect(name: string, pid: number, lockspace: string): Promise<Peer> {
    const peer = await this.daemon.connect();
    await peer.must(lock.register({ pid, name }));
    await peer.must(lock.createLockspace(lockspace));
    return peer;
  }

  async lockctl(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.daemon.lab.run(program, args);
    assert.ok(code !== null && code <= 1 && stderr === '', `virt-lockctl ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  }

  spawnLockctl(...args: readonly string[]): Running {
    return this.daemon.lab.spawn(program, args);
  }

  async status(): Promise<Record<string, unknown>> {
    return JSON.parse(await this.lockctl('status', '--json')) as Record<string, unknown>;
  }

  /** Waits for a line of the log. */
  async logs(pattern: RegExp): Promise<void> {
    await eventually(`${String(pattern)} is logged`, () => pattern.test(this.daemon.log));
  }
}
