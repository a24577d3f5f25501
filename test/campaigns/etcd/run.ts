/** One run: a cluster, hosts, owners, the faults of a seed, and what is found. */
import { mkdtempSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { compile } from '../../../src/lab/compile.ts';
import { EtcdLab } from '../../../src/lab/etcd-cluster.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { lock, Peer } from '../../../src/lab/wire.ts';
import { processesNamed } from '../../support/storage-helpers.ts';
import { afflict, makeRoom, prepare, type Scene } from './afflict.ts';
import { type Overlap, RecordFile } from './checker.ts';
import { HostDaemon, LOCKSPACE, OwnerSlot, type Subject, type Tally } from './hosts.ts';
import { type Fault, type FaultName, faultsOf } from './plan.ts';

export interface RunOptions {
  readonly seed: number;
  readonly minutes: number;
  readonly leaseSeconds: number;
  readonly faults: readonly FaultName[];
  readonly subject: Subject;
  /** Directories that all hosts share. */
  readonly share?: readonly string[];
  /** Ends at the first finding. */
  readonly endsEarly: boolean;
  readonly signal: AbortSignal;
  readonly onProgress?: (line: string) => void;
}

export interface Finding {
  readonly kind: 'two writers' | 'stuck' | 'daemon ended' | 'unsaid';
  /** Seconds from the start. */
  readonly second: number;
  readonly detail: string;
}

export interface Report {
  readonly seed: number;
  readonly subject: string;
  readonly leaseSeconds: number;
  readonly seconds: number;
  readonly faults: Readonly<Partial<Record<FaultName, number>>>;
  readonly tally: Tally;
  /** Holds that have written, and their records. */
  readonly holds: number;
  readonly records: number;
  readonly findings: readonly Finding[];
}

const HOSTS = 3;
/** What owners of every host ask for, and how. */
const resources = [
  { name: 'one', modes: 'exclusive' },
  { name: 'two', modes: 'mixed' },
] as const;
/** How often the files are looked at, in ms. */
const LOOK_MS = 1000;
/** After the last fault and the end of the last lease, in ms. */
const PATIENCE_MS = 30_000;

/** What the log says when etcd is full. */
const FULL = 'etcd is full (alarm NOSPACE)';

const hostOf = (hold: number): number => Math.floor(hold / 2 ** 40 / 10);

function overlapText(resource: string, { former, latter, records, from, to }: Overlap): string {
  const overlap = `${records} records in ${Math.round(to - from)} ms`;
  return `'${resource}': an owner of host ${hostOf(former)} wrote ${overlap} after one of host ${hostOf(latter)} had begun to`;
}

class Run {
  private readonly options: RunOptions;
  private readonly scene: Scene;
  private readonly files: readonly { readonly name: string; readonly file: RecordFile }[];
  private readonly tally: Tally;
  private readonly findings: Finding[] = [];
  private readonly counts: Partial<Record<FaultName, number>> = {};
  private readonly began = performance.now();
  private readonly reported = new Set<Overlap>();
  private readonly ended = new Set<string>();

  constructor(options: RunOptions, scene: Scene, files: Run['files'], tally: Tally) {
    this.options = options;
    this.scene = scene;
    this.files = files;
    this.tally = tally;
  }

  private get seconds(): number {
    return Math.round((performance.now() - this.began) / 1000);
  }

  private say(text: string): void {
    this.options.onProgress?.(`${this.seconds} s: ${text}`);
  }

  private find(kind: Finding['kind'], detail: string): void {
    this.findings.push({ kind, second: this.seconds, detail });
    this.say(`FOUND, ${kind}: ${detail}`);
  }

  private look(): void {
    for (const owner of this.scene.owners) owner.count();
    for (const { name, file } of this.files) {
      file.check();
      for (const overlap of file.finder.overlaps) {
        if (this.reported.has(overlap)) continue;
        this.reported.add(overlap);
        this.find('two writers', overlapText(name, overlap));
      }
    }
    for (const daemon of this.scene.daemons) {
      const why = daemon.unexpectedEnd;
      if (why === undefined || this.ended.has(why)) continue;
      this.ended.add(why);
      this.find('daemon ended', `host ${daemon.host.number - 100}: ${why}`);
    }
  }

  /** Waits, and looks. Returns false when the run is to end. */
  private async wait(milliseconds: number): Promise<boolean> {
    for (const until = performance.now() + milliseconds; ;) {
      this.look();
      if (this.options.signal.aborted || (this.options.endsEarly && this.findings.length > 0)) return false;
      const left = until - performance.now();
      if (left <= 0) return true;
      await pause(Math.min(left, LOOK_MS));
    }
  }

  private async play(fault: Fault): Promise<boolean> {
    const { name, duration } = fault;
    this.counts[name] = (this.counts[name] ?? 0) + 1;
    this.say(`${name} ${fault.target % HOSTS}, for ${duration} ms`);
    const undo = await afflict(this.scene, fault);
    const goesOn = await this.wait(duration);
    await undo();
    return goesOn;
  }

  /** Two faults at a time, each beginning when it may. */
  async playAll(): Promise<void> {
    const { seed, faults, leaseSeconds, minutes } = this.options;
    const until = performance.now() + minutes * 60_000;
    const lane = async (laneSeed: number): Promise<void> => {
      for (const fault of faultsOf(laneSeed, faults, leaseSeconds)) {
        if (performance.now() >= until || !(await this.wait(fault.pause)) || !(await this.play(fault))) return;
      }
    };
    await Promise.all([lane(seed * 2), lane(seed * 2 + 1)]);
  }

  /** Ends all faults, and has every host get every resource. */
  async finish(): Promise<void> {
    const { lab, daemons, owners } = this.scene;
    this.say('all faults end');
    for (const { host } of [...lab.members, ...daemons]) await host.heal();
    for (const member of lab.members) {
      member.signal('SIGCONT');
      member.start();
    }
    for (const daemon of daemons) {
      daemon.signal('SIGCONT');
      if (daemon.pid === undefined) await daemon.start();
    }
    for (const owner of owners) await owner.stop();
    this.look();
    if (this.scene.timesFull > 0) {
      if (!(await makeRoom(lab, 60_000))) throw new Error('no room could be made in etcd');
      if (!daemons.some(({ log }) => log.includes(FULL)) && this.options.subject.kind === 'daemon')
        this.find('unsaid', 'etcd was full, and no daemon has said so');
    }
    await lab.healthy(60_000);
    const from = performance.now();
    for (const daemon of daemons) {
      for (const { name } of resources) {
        // Each has the time for itself: one that is stuck must not take the others'.
        const until = Math.max(
          from + this.options.leaseSeconds * 1000 + PATIENCE_MS,
          performance.now() + PATIENCE_MS / 3,
        );
        const why = await tryToGet(daemon, name, until);
        if (why !== undefined) this.find('stuck', `'${name}' on host ${daemon.host.number - 100}: ${why}`);
      }
    }
    this.look();
  }

  report(subject: string): Report {
    const { seed, leaseSeconds } = this.options;
    const { tally, findings, counts: faults, seconds } = this;
    const sum = (of: (file: RecordFile) => number): number =>
      this.files.reduce((total, { file }) => total + of(file), 0);
    const [holds, records] = [sum(({ finder }) => finder.holds), sum(({ finder }) => finder.records)];
    return { seed, subject, leaseSeconds, seconds, faults, tally, holds, records, findings };
  }
}

/** Why the resource cannot be had until then; undefined: it was. */
async function tryToGet(daemon: HostDaemon, name: string, until: number): Promise<string | undefined> {
  let why = 'no answer';
  while (performance.now() < until) {
    let peer: Peer | undefined;
    try {
      peer = await Peer.connect(daemon.host.lab.outside(daemon.socket));
      // Nobody's process: the daemon must not end this one.
      const owner = daemon.host.lab.spawn('sleep', ['1000']);
      try {
        await peer.must(lock.register({ pid: owner.pid }));
        await peer.call(lock.createLockspace(LOCKSPACE));
        const { status, payload } = await peer.call(lock.acquire(LOCKSPACE, name, 2));
        if (status === 0) {
          await peer.must(lock.release(LOCKSPACE, name));
          return undefined;
        }
        why = `code ${payload.readInt32BE(0)}: ${printable(payload)}`;
      } finally {
        await owner.stop('SIGKILL');
      }
    } catch (error) {
      why = (error as Error).message;
    } finally {
      peer?.close();
    }
    await pause(500);
  }
  return why;
}

/** The words in an error, whose form may be the stand-in's. */
function printable(payload: Buffer): string {
  return payload
    .toString('latin1')
    .replaceAll(/[^ -~]+/g, ' ')
    .trim();
}

function killGuard(daemon: HostDaemon): void {
  for (const pid of guardsIn(daemon)) process.kill(pid, 'SIGKILL');
}

/** The guards of a host: they are in its network. */
function guardsIn({ host }: HostDaemon): number[] {
  const network = (pid: number): string => {
    try {
      return readlinkSync(`/proc/${pid}/ns/net`);
    } catch {
      return '';
    }
  };
  return processesNamed('virtlockd-guard\0').filter((pid) => network(pid) === network(host.lab.holder));
}

export async function run(options: RunOptions): Promise<Report> {
  const shared = mkdtempSync(join(tmpdir(), 'etcd-check-'));
  const clockLibrary = join(shared, 'clocks.so');
  compile(clockLibrary, [join(import.meta.dirname, 'clocks.c')], ['-shared', '-fPIC']);
  const { subject, leaseSeconds, seed } = options;
  const name = subject.kind === 'daemon' ? subject.program.replace(checkout, '.') : `stand-in ${subject.fault ?? ''}`;
  const lab = await EtcdLab.open({ hosts: HOSTS, share: [shared, ...(options.share ?? [])] });
  try {
    await prepare(lab, leaseSeconds);
    const surroundings = { endpoints: lab.endpoints, leaseSeconds, subject, clockLibrary };
    const daemons = lab.hosts.map((host, index) => new HostDaemon(host, surroundings, index === 1));
    await Promise.all(daemons.map(async (daemon) => daemon.start()));
    const tally: Tally = { granted: 0, released: 0, refused: {}, alone: 0, ended: 0 };
    const owners = daemons.flatMap((daemon, host) =>
      resources.map(({ name: resource, modes }, index) => {
        const number = String((host + 1) * 10 + index);
        return new OwnerSlot(daemon, [resource, join(shared, resource), number, String(seed), modes], tally);
      }),
    );
    const files = resources.map(({ name: resource }) => ({
      name: resource,
      file: new RecordFile(join(shared, resource)),
    }));
    const played = new Run(options, { lab, daemons, owners, killGuard, timesFull: 0 }, files, tally);
    for (const owner of owners) owner.start();
    await played.playAll();
    await played.finish();
    const report = played.report(name.trim());
    if (report.findings.length > 0 && options.onProgress !== undefined) {
      for (const daemon of daemons) {
        const { log } = daemon;
        options.onProgress(`the log of host ${daemon.host.number - 100} ends:\n${log.slice(-1500)}`);
      }
    }
    return report;
  } finally {
    await lab.close();
    rmSync(shared, { recursive: true, force: true });
  }
}
