/** The hosts of a run: each with its lock daemon, and the owners that ask it. */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, type Running } from '../../../src/lab/process.ts';
import { ServiceManager } from '../../../src/lab/manager.ts';
import type { NetworkHost } from '../../../src/lab/network.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { Peer } from '../../../src/lab/wire.ts';
import type { StandInSettings } from './stand-in-settings.ts';

/** Where locks are kept in etcd. */
export const LOCKSPACE = '/var/lib/libvirt/lockd/etcd';

/** The lock daemon to play against: a program, or the stand-in. */
export type Subject =
  | { readonly kind: 'daemon'; readonly program: string }
  | { readonly kind: 'stand-in'; readonly fault?: StandInSettings['fault'] };

export interface Surroundings {
  readonly endpoints: readonly string[];
  readonly leaseSeconds: number;
  readonly subject: Subject;
  /** The library that sets the wall clock of a process by {@link HostDaemon.clockFile}. */
  readonly clockLibrary: string;
}

/** Until a daemon must serve, in ms. */
const START_MS = 20_000;

function configuration({ endpoints, leaseSeconds }: Surroundings): string {
  const list = endpoints.map((url) => `"${url}"`).join(', ');
  return `etcd_endpoints = [ ${list} ]
etcd_lockspaces = [ "${LOCKSPACE}" ]
etcd_lease_seconds = ${leaseSeconds}
log_outputs = "1:stderr"
log_filters = "2:etcd 3:rpc"
log_level = 2
`;
}

export class HostDaemon {
  readonly host: NetworkHost;
  readonly clockFile: string;
  private readonly surroundings: Surroundings;
  private process: Running | null = null;
  /** Of a host with a service manager that keeps descriptors, and starts the daemon again by itself. */
  private manager: ServiceManager | null = null;
  private managedPid = 0;
  /** It has been killed on purpose. */
  private isExpected = true;

  /** @param hasStore its locks and its lease outlive its death */
  constructor(host: NetworkHost, surroundings: Surroundings, hasStore: boolean) {
    this.host = host;
    this.hasStore = hasStore && surroundings.subject.kind === 'daemon';
    this.managed = join(host.lab.directory, 'm');
    this.surroundings = surroundings;
    this.clockFile = join(host.lab.directory, 'clock');
    if (surroundings.subject.kind === 'daemon')
      host.lab.write('/etc/libvirt/virtlockd.conf', configuration(surroundings));
  }

  readonly hasStore: boolean;
  private readonly managed: string;

  /** Inside path. */
  get socket(): string {
    return `${this.hasStore ? join(this.managed, 'root') : ''}/run/libvirt/virtlockd-sock`;
  }

  get pid(): number | undefined {
    if (this.manager !== null) return existsSync(`/proc/${this.managedPid}`) ? this.managedPid : undefined;
    return this.process?.finished === undefined ? this.process?.pid : undefined;
  }

  get log(): string {
    return this.manager?.log ?? this.process?.output ?? '';
  }

  /** Why it is not there though nobody has killed it, or undefined. */
  get unexpectedEnd(): string | undefined {
    if (this.manager !== null && !this.isExpected && this.pid === undefined)
      return `ended, process ${this.managedPid}: ${this.log.slice(-2000)}`;
    const finished = this.process?.finished;
    if (this.isExpected || finished === undefined) return undefined;
    return `ended with ${finished.code ?? finished.signal ?? 'nothing'}: ${this.log.slice(-2000)}`;
  }

  private async startManager(env: Readonly<Record<string, string>>): Promise<void> {
    const { lab } = this.host;
    const { subject } = this.surroundings;
    mkdirSync(this.managed);
    const program = subject.kind === 'daemon' ? subject.program : '';
    const args = ['--config', '/etc/libvirt/virtlockd.conf'];
    this.manager = new ServiceManager(this.managed, {
      program,
      args,
      enter: lab.enter,
      env: { FDSTORE: '4096', ...env },
    });
    await this.awaitManaged();
  }

  private async awaitManaged(): Promise<void> {
    const started = await this.manager?.next('started', START_MS);
    this.managedPid = started?.pid ?? 0;
    await this.manager?.next('ready', START_MS);
    this.isExpected = false;
  }

  async start(): Promise<void> {
    const { lab } = this.host;
    const { subject, endpoints, leaseSeconds, clockLibrary } = this.surroundings;
    const output = join(lab.directory, 'daemon.log');
    const env = { LD_PRELOAD: clockLibrary, CLOCK_FILE: this.clockFile };
    if (this.hasStore) {
      // It starts again by itself.
      if (this.manager === null) await this.startManager(env);
      return;
    }
    // A daemon that was killed has left them.
    for (const name of ['virtlockd-sock', 'virtlockd-admin-sock'])
      rmSync(lab.outside(`/run/libvirt/${name}`), { force: true });
    rmSync(lab.outside('/run/virtlockd.pid'), { force: true });
    if (subject.kind === 'daemon') this.process = lab.spawn(subject.program, [], { output, env });
    else {
      const { fault } = subject;
      const settings: StandInSettings = { socket: this.socket, endpoints, leaseSeconds, fault };
      lab.write('/run/libvirt/.made', '');
      const words = [join(import.meta.dirname, 'stand-in.ts'), JSON.stringify(settings)];
      this.process = lab.spawn(join(checkout, 'scripts/node'), words, { output, env });
    }
    this.isExpected = false;
    const { process: started } = this;
    await eventually(
      'the daemon accepts',
      async () => {
        if (started.finished !== undefined) throw new Error(this.log.slice(-2000));
        (await Peer.connect(lab.outside(this.socket))).close();
        return true;
      },
      START_MS,
    );
  }

  async kill(): Promise<void> {
    this.isExpected = true;
    if (this.manager !== null) {
      process.kill(this.managedPid, 'SIGKILL');
      await this.manager.next('ended');
      await this.awaitManaged();
      return;
    }
    await this.process?.stop('SIGKILL');
  }

  signal(signal: NodeJS.Signals): void {
    if (this.manager !== null) {
      if (this.pid !== undefined) process.kill(this.managedPid, signal);
      return;
    }
    this.process?.kill(signal);
  }
}

/** What owners have done, over all hosts. */
export interface Tally {
  granted: number;
  released: number;
  /** By the code of the error. */
  readonly refused: Record<string, number>;
  /** Went on writing without a daemon that answered. */
  alone: number;
  /** Killed, by the daemon or its guard. */
  ended: number;
}

export class OwnerSlot {
  readonly daemon: HostDaemon;
  private readonly words: readonly string[];
  private readonly tally: Tally;
  private process: Running | null = null;
  private hasStopped = false;
  private seen = 0;
  private lives = 0;
  /** It was killed on purpose. */
  private isKilled = false;
  /** It writes at present, as far as it has said. */
  holds = false;

  /** @param words see owner.py */
  constructor(daemon: HostDaemon, words: readonly string[], tally: Tally) {
    this.daemon = daemon;
    this.words = words;
    this.tally = tally;
  }

  start(): void {
    if (this.hasStopped) return;
    this.isKilled = false;
    this.seen = 0;
    const [resource = '', file = '', number = '', seed = '', modes = ''] = this.words;
    const script = join(import.meta.dirname, 'owner.py');
    const words = [script, this.daemon.socket, LOCKSPACE, resource, file, number, String(this.lives++), seed, modes];
    const process = this.daemon.host.lab.spawn('python3', words);
    this.process = process;
    void process.exited.then(() => {
      this.count();
      this.holds = false;
      if (!this.isKilled) this.tally.ended++;
      setTimeout(() => {
        this.start();
      }, 200);
    });
  }

  /** Counts what it has said since the last time. */
  count(): void {
    const said = this.process?.output ?? '';
    const end = said.lastIndexOf('\n') + 1;
    for (const line of said.slice(this.seen, end).split('\n')) {
      const [what = '', which = ''] = line.split(' ');
      if (what !== '') this.holds = what === 'granted' || what === 'alone';
      if (what === 'granted' || what === 'released' || what === 'alone') this.tally[what]++;
      else if (what === 'refused') this.tally.refused[which] = (this.tally.refused[which] ?? 0) + 1;
    }
    this.seen = end;
  }

  signal(signal: NodeJS.Signals): void {
    if (signal === 'SIGKILL') this.isKilled = true;
    this.process?.kill(signal);
  }

  /** For good. */
  async stop(): Promise<void> {
    this.hasStopped = true;
    this.isKilled = true;
    await this.process?.stop('SIGKILL');
  }
}
