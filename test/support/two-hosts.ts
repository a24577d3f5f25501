/**
 * Two hosts on one GlusterFS: labs with their own names, mounts, libvirtds and lock daemons, on one machine. So the pid by which the file
 * system names the holder of a lock tells on which of them it is held.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Gluster } from '../../src/lab/gluster.ts';
import { type GuestDescription, indirectName, makeImage } from '../../src/lab/guest.ts';
import { Libvirtd } from '../../src/lab/libvirtd.ts';
import { type Finished, eventually } from '../../src/lab/process.ts';
import { Lab } from '../../src/lab/root.ts';
import { type LockDaemon, startDaemon } from '../../src/lab/start.ts';
import { checkout, ownDirectories } from '../../src/lab/trees.ts';
import { autocreate, type Call, lock, type Peer } from '../../src/lab/wire.ts';
import { holderOf, namespaceOf, type Span } from './lock-watch.ts';
import { Qmp } from './qmp.ts';

export type HostName = 'node7' | 'node8';
export type Kind = 'ours' | '9.0.0';
/** Whether libvirt locks the images themselves, or files in a directory beside them. */
export type Place = 'direct' | 'indirect';

/** Above every pid there can be: its end kills nobody. */
const NOBODY = 4_200_000;
const CONFIGURATION = 'log_level = 1\nlog_outputs = "1:stderr"\n';
const UUIDS: Readonly<Record<HostName, string>> = {
  node7: '77777777-2222-3333-4444-555555555555',
  node8: '88888888-2222-3333-4444-555555555555',
};
/** QEMU refuses an image that another QEMU has open, before libvirt asks for the lock. This one does not, as QEMU before 2.10. */
const UNLOCKED_QEMU = '/usr/local/bin/qemu-without-image-locks';
const UNLOCKED_QEMU_SCRIPT = `#!/bin/bash
for arg; do
  case $arg in '{"driver":"file"'*) arg="{\\"locking\\":\\"off\\",\${arg#\\{}" ;; esac
  args+=("$arg")
done
exec /usr/bin/qemu-system-x86_64 "\${args[@]}"
`;

export class ClusterHost<Name extends string = HostName> {
  readonly name: Name;
  readonly lab: Lab;
  readonly #uuid: string;
  #daemon: LockDaemon | undefined;
  #libvirtd: Libvirtd | undefined;

  /** @param uuid libvirt's of the host */
  constructor(name: Name, lab: Lab, uuid: string) {
    this.name = name;
    this.lab = lab;
    this.#uuid = uuid;
    lab.write(UNLOCKED_QEMU, UNLOCKED_QEMU_SCRIPT, 0o755);
  }

  get daemon(): LockDaemon {
    if (this.#daemon === undefined) throw new Error(`${this.name} has no lock daemon`);
    return this.#daemon;
  }

  get libvirtd(): Libvirtd {
    if (this.#libvirtd === undefined) throw new Error(`${this.name} has no libvirtd`);
    return this.#libvirtd;
  }

  /** @param configuration more lines of virtlockd.conf */
  async startDaemon(kind: Kind, configuration = ''): Promise<void> {
    this.#daemon = await startDaemon(kind, { lab: this.lab, configuration: CONFIGURATION + configuration });
  }

  async stopDaemon(): Promise<void> {
    await this.#daemon?.stop();
    this.#daemon = undefined;
  }

  /** @param lockspace `file_lockspace_dir`; undefined: the images are locked */
  async startLibvirtd(lockspace: string | undefined): Promise<void> {
    this.#libvirtd = new Libvirtd(this.lab, {
      hostUuid: this.#uuid,
      ...(lockspace === undefined ? {} : { fileLockspace: lockspace }),
    });
    await this.#libvirtd.start();
  }

  async stopLibvirtd(): Promise<void> {
    await this.#libvirtd?.stop();
    this.#libvirtd = undefined;
  }

  /** As libvirt says it; empty without the guest. */
  async stateOf(guest: string): Promise<string> {
    return (await this.libvirtd.virsh('domstate', guest)).stdout.trim();
  }

  /**
   * A monitor of a guest's QEMU, which is there before the guest runs. Each serves one client at a time.
   * @param number 0 is that of {@link TwoHosts.watch}
   */
  async monitor(guest: string, number: 0 | 1 = 1): Promise<Qmp> {
    return Qmp.connect(this.lab.outside(monitorOf(guest, number)));
  }

  /** virt-lockctl's output. @throws Error when it fails */
  async lockctl(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.lab.run(join(checkout, 'bin/virt-lockctl'), args);
    if (code === null || code > 1 || stderr !== '')
      throw new Error(`virt-lockctl ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  }

  async logs(pattern: RegExp): Promise<void> {
    await eventually(`${String(pattern)} is in the log of ${this.name}`, () => pattern.test(this.daemon.log));
  }

  /** A client that asks as a guest of this host would, and knows the lockspace. */
  async rival(lockspace: string | undefined): Promise<Peer> {
    const peer = await this.daemon.connect();
    await peer.must(lock.register({ pid: NOBODY, name: 'rival' }));
    if (lockspace !== undefined) await peer.must(lock.createLockspace(lockspace));
    return peer;
  }
}

/** Inside a host. */
const monitorOf = (guest: string, number: 0 | 1): string => `/run/${guest}.qmp${number}`;

export class TwoHosts {
  readonly node7: ClusterHost;
  readonly node8: ClusterHost;
  readonly gluster: Gluster;
  /** The storage, from outside of both hosts. */
  readonly #outside: string;
  #place: Place | undefined;

  private constructor(node7: ClusterHost, node8: ClusterHost, gluster: Gluster, outside: string) {
    this.node7 = node7;
    this.node8 = node8;
    this.gluster = gluster;
    this.#outside = outside;
  }

  static async open(): Promise<TwoHosts> {
    const labs: Lab[] = [];
    try {
      const one = await Lab.open({ share: ownDirectories, hostname: 'node7' });
      labs.push(one);
      const gluster = await Gluster.start(one);
      // What this one remembers of names would be wrong as soon as a host removes a file.
      const outside = await gluster.mountAgain(one, '--entry-timeout=0', '--attribute-timeout=0');
      const two = await Lab.open({ share: [...ownDirectories, one.directory], hostname: 'node8' });
      labs.push(two);
      await gluster.mountIn(two);
      return new TwoHosts(
        new ClusterHost('node7', one, UUIDS.node7),
        new ClusterHost('node8', two, UUIDS.node8),
        gluster,
        one.outside(outside),
      );
    } catch (error) {
      for (const lab of labs.reverse()) await lab.close();
      throw error;
    }
  }

  get hosts(): readonly [ClusterHost, ClusterHost] {
    return [this.node7, this.node8];
  }

  /** The directory of lock files, or undefined where the images are locked. */
  get lockspace(): string | undefined {
    return this.#place === 'indirect' ? this.gluster.at('locks') : undefined;
  }

  /**
   * Starts lock daemons in the place of those that run, while no guest does. A libvirtd is started only once for a place: QEMU's
   * capabilities take it seconds.
   */
  async start(kinds: readonly [Kind, Kind], place: Place): Promise<void> {
    const isOther = this.#place !== place;
    this.#place = place;
    const { lockspace } = this;
    if (lockspace !== undefined) mkdirSync(this.outside(lockspace), { recursive: true, mode: 0o700 });
    for (const [index, host] of this.hosts.entries()) {
      if (isOther) await host.stopLibvirtd();
      await host.stopDaemon();
      await host.startDaemon(kinds[index] ?? 'ours');
      if (isOther) await host.startLibvirtd(lockspace);
      // libvirtd makes it known as it starts, to the daemon of that time.
      else (await host.rival(lockspace)).close();
    }
  }

  /** Stops what {@link start} has started. */
  async stop(): Promise<void> {
    for (const host of this.hosts) {
      await host.stopLibvirtd();
      await host.stopDaemon();
    }
    this.#place = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.gluster.end();
    for (const host of [this.node8, this.node7]) await host.lab.close();
  }

  /** The path outside of both hosts of what is on the storage. */
  outside(path: string): string {
    return path.replace(this.gluster.mount, this.#outside);
  }

  /** Makes an image on the storage. Returns its path on the hosts. */
  image(name: string): string {
    makeImage(this.outside(this.gluster.mount), name);
    return this.gluster.at(name);
  }

  remove(path: string): void {
    rmSync(this.outside(path), { force: true });
  }

  /** The file that is locked for a disk, on the hosts. */
  lockFileOf(image: string): string {
    const { lockspace } = this;
    return lockspace === undefined ? image : join(lockspace, indirectName(image));
  }

  /** The host and kind of the lock on a file, as the storage has it; undefined when it has none. */
  lockOn(file: string): string | undefined {
    const holder = holderOf(this.outside(file));
    if (holder === undefined) return undefined;
    return `${this.#hostOf(namespaceOf(holder.pid)) ?? 'nobody'} ${holder.access}`;
  }

  #hostOf(namespace: string | undefined): HostName | undefined {
    return namespace === undefined
      ? undefined
      : this.hosts.find(({ daemon }) => namespaceOf(daemon.pid) === namespace)?.name;
  }

  /** The call for a disk's lock, as libvirt makes it. */
  acquire(image: string): Call {
    const { lockspace } = this;
    return lockspace === undefined ? lock.acquire('', image) : lock.acquire(lockspace, indirectName(image), autocreate);
  }

  release(image: string): Call {
    const { lockspace } = this;
    return lockspace === undefined ? lock.release('', image) : lock.release(lockspace, indirectName(image));
  }

  /** Migrates a guest, live. */
  async migrate(guest: string, from: ClusterHost, to: ClusterHost, ...options: readonly string[]): Promise<Finished> {
    const socket = join(this.node7.lab.directory, 'migration');
    return from.libvirtd.migration(guest, to.libvirtd, socket, ...options);
  }

  /**
   * Does something with a guest that runs on one of the hosts, and finds out who had its disk's lock when it ran where, to the
   * millisecond.
   */
  async watch(guest: string, image: string, step: () => Promise<unknown>): Promise<Watched> {
    const file = this.outside(this.lockFileOf(image));
    const watcher = spawn(join(checkout, 'scripts/node'), [join(checkout, 'test/support/lock-watch.ts'), file], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const spans: Span[] = [];
    const lines = createInterface(watcher.stdout);
    lines.on('line', (line) => {
      if (line !== '') spans.push(JSON.parse(line) as Span);
    });
    await once(lines, 'line');
    const over = new AbortController();
    const monitors = this.hosts.map(async (host) => followRuns(host, guest, over.signal));
    try {
      await step();
    } finally {
      over.abort();
      watcher.stdin.end();
      await once(lines, 'close');
    }
    const runs = (await Promise.all(monitors)).flat();
    return {
      runs,
      locks: spans.map(({ host, ...span }) => ({ ...span, host: this.#hostOf(host ?? undefined) ?? null })),
    };
  }
}

/** A guest's CPUs ran there. CLOCK_REALTIME in ms. */
export interface Run {
  readonly host: HostName;
  readonly from: number;
  readonly to: number;
}

export interface Watched {
  readonly runs: readonly Run[];
  /** In the order of time. Between two spans the lock has changed hands. */
  readonly locks: readonly { readonly from: number; readonly to: number; readonly host: HostName | null }[];
}

async function followRuns(host: ClusterHost, guest: string, over: AbortSignal): Promise<Run[]> {
  const runs: Run[] = [];
  while (!over.aborted) {
    const monitor = await host.monitor(guest, 0).catch(() => undefined);
    if (monitor === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      continue;
    }
    for (const { from, to } of await monitor.followRuns(over)) runs.push({ host: host.name, from, to });
  }
  return runs;
}

/** A guest whose runs can be followed. */
export function followed(guest: GuestDescription): GuestDescription {
  const monitors = ([0, 1] as const).map((number) => `unix:${monitorOf(guest.name, number)},server=on,wait=off`);
  return { ...guest, arguments: monitors.flatMap((monitor) => ['-qmp', monitor]) };
}

/** A guest whose QEMU opens an image though another host's has it open. */
export function withoutImageLocks(guest: GuestDescription): GuestDescription {
  return { ...guest, emulator: UNLOCKED_QEMU };
}

export interface Fault {
  readonly kind: string;
  /** In ms after the first run that was seen began. */
  readonly when: string;
}

/** Moments in which a guest ran on two hosts, or without its lock. */
export function faultsOf({ runs, locks }: Watched): Fault[] {
  const faults: Fault[] = [];
  const [first = 0] = runs.map(({ from }) => from);
  const when = (from: number, to: number): string =>
    `from ${(from - first).toFixed(1)} to ${(to - first).toFixed(1)} ms`;
  for (const [index, one] of runs.entries())
    for (const other of runs.slice(index + 1)) {
      const [from, to] = [Math.max(one.from, other.from), Math.min(one.to, other.to)];
      if (from < to) faults.push({ kind: `runs on ${one.host} and ${other.host}`, when: when(from, to) });
    }
  for (const run of runs)
    for (const { host, ...span } of locks) {
      const [from, to] = [Math.max(run.from, span.from), Math.min(run.to, span.to)];
      if (from <= to && host !== run.host)
        faults.push({ kind: `runs on ${run.host} while ${host ?? 'nobody'} has its lock`, when: when(from, to) });
    }
  return faults;
}
