/** The hosts of a run: each with its lock daemon, and the owners that ask it. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, type Running } from '../../../src/lab/process.ts';
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
  /** It has been killed on purpose. */
  private isExpected = true;

  constructor(host: NetworkHost, surroundings: Surroundings) {
    this.host = host;
    this.surroundings = surroundings;
    this.clockFile = join(host.lab.directory, 'clock');
    if (surroundings.subject.kind === 'daemon')
      host.lab.write('/etc/libvirt/virtlockd.conf', configuration(surroundings));
  }

  /** Inside path. */
  readonly socket = '/run/libvirt/virtlockd-sock';

  get pid(): number | undefined {
    return this.process?.finished === undefined ? this.process?.pid : undefined;
  }

  get log(): string {
    return this.process?.output ?? '';
  }

  /** Why it is not there though nobody has killed it, or undefined. */
  get unexpectedEnd(): string | undefined {
    const finished = this.process?.finished;
    if (this.isExpected || finished === undefined) return undefined;
    return `ended with ${finished.code ?? finished.signal ?? 'nothing'}: ${this.log.slice(-2000)}`;
  }

  async start(): Promise<void> {
    const { lab } = this.host;
    const { subject, endpoints, leaseSeconds, clockLibrary } = this.surroundings;
    const output = join(lab.directory, 'daemon.log');
    const env = { LD_PRELOAD: clockLibrary, CLOCK_FILE: this.clockFile };
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
    const { process } = this;
    await eventually(
      'the daemon accepts',
      async () => {
        if (process.finished !== undefined) throw new Error(this.log.slice(-2000));
        (await Peer.connect(lab.outside(this.socket))).close();
        return true;
      },
      20_000,
    );
  }

  async kill(): Promise<void> {
    this.isExpected = true;
    await this.process?.stop('SIGKILL');
  }

  signal(signal: NodeJS.Signals): void {
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
