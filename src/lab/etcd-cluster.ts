/**
 * A real cluster of etcd and hosts that use it, on one machine: each member and each host has a private root and a network namespace, and
 * all are on one bridge. When the test ends, or is killed, every process in these roots is.
 *
 * The clocks: etcd reads CLOCK_REALTIME and CLOCK_MONOTONIC past every library, and the kernel has no namespace for CLOCK_REALTIME, so a
 * member's wall clock cannot be set but for the whole machine. Hosts' daemons can be given another one by a library (see clocks.c of the
 * campaign that does).
 */
import { openLab } from './trees.ts';
import { eventually, GivenUp, type Running } from './process.ts';
import { Network, type NetworkHost } from './network.ts';
import type { Lab } from './root.ts';

/** Where a member has its data: a file system of its own, in memory of this size or on the disk. It allocates two files of 64 MB before it writes anything, and more later. */
const DATA = '/var/lib/etcd-lab';
const DATA_MB = 352;
const FILLER = `${DATA}/filler`;

const CLIENTS = 2379;
const PEERS = 2380;
/** Beyond it etcd refuses to write. */
const QUOTA_BYTES = 16 * 1024 * 1024;
/** A value that is about as large as etcd takes one, and how many of these exceed the quota for certain. */
const BIG_BYTES = 1_000_000;
const MAX_BIG = 40;
/** For hours of use: old revisions are removed, and files of the log that a snapshot has made needless. */
const UPKEEP = {
  'auto-compaction-mode': 'revision',
  'auto-compaction-retention': '1000',
  'snapshot-count': 2000,
  'max-wals': 2,
};
const LIMITS = ['--dial-timeout=1s', '--command-timeout=2s'];
const CLIENT = { ETCDCTL_API: '3', ETCDCTL_ENDPOINTS: `http://127.0.0.1:${CLIENTS}` };

export class ClusterMember {
  readonly name: string;
  readonly host: NetworkHost;
  private readonly cluster: string;
  private process: Running | null = null;

  constructor(host: NetworkHost, cluster: string) {
    this.host = host;
    this.name = memberName(host);
    this.cluster = cluster;
  }

  get url(): string {
    return `http://${this.host.address}:${CLIENTS}`;
  }

  get pid(): number | undefined {
    return this.isRunning ? this.process?.pid : undefined;
  }

  get isRunning(): boolean {
    return this.process !== null && this.process.finished === undefined;
  }

  get log(): string {
    return this.process?.output ?? '';
  }

  start(): void {
    if (this.isRunning) return;
    const { name, host, cluster } = this;
    const peers = `http://${host.address}:${PEERS}`;
    const settings = {
      name,
      'data-dir': `${DATA}/data`,
      'listen-client-urls': `${this.url},http://127.0.0.1:${CLIENTS}`,
      'advertise-client-urls': this.url,
      'listen-peer-urls': peers,
      'initial-advertise-peer-urls': peers,
      'initial-cluster': cluster,
      'initial-cluster-state': 'new',
      'quota-backend-bytes': QUOTA_BYTES,
      ...UPKEEP,
      logger: 'zap',
      'log-level': 'warn',
    };
    const args = Object.entries(settings).map(([key, value]) => `--${key}=${value}`);
    this.process = host.lab.spawn('etcd', args, { output: `${host.lab.directory}/etcd.log` });
  }

  signal(signal: NodeJS.Signals): void {
    this.process?.kill(signal);
  }

  async kill(): Promise<void> {
    await this.process?.stop('SIGKILL');
  }

  /** Answers as etcdctl does, asked of this member alone. @throws Error with what it said */
  async control(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.host.lab.run('etcdctl', [...LIMITS, ...args], { env: CLIENT });
    if (code !== 0) throw new Error(`etcdctl ${args.join(' ')}: ${stderr.trim()}`);
    return stdout;
  }

  /** Whether it is the leader, as it believes. False when it does not answer. */
  async leads(): Promise<boolean> {
    if (!this.isRunning) return false;
    try {
      const [status] = JSON.parse(await this.control('endpoint', 'status', '--write-out=json')) as [
        { Status: { header: { member_id: number }; leader: number } },
      ];
      return status.Status.leader === status.Status.header.member_id;
    } catch {
      return false;
    }
  }

  /** Its database's revision. @throws Error when it does not answer */
  async revision(): Promise<number> {
    const [status] = JSON.parse(await this.control('endpoint', 'status', '--write-out=json')) as [
      { Status: { header: { revision: number } } },
    ];
    return status.Status.header.revision;
  }

  /** Fills the database beyond its quota, by which etcd raises the alarm NOSPACE. Returns whether it has said that it is full. */
  async fillDatabase(): Promise<boolean> {
    const big = `head -c ${BIG_BYTES} /dev/zero | tr '\\0' x | etcdctl ${LIMITS.join(' ')} put /filler`;
    const all = `for one in $(seq ${MAX_BIG}); do ${big} >/dev/null || exit 1; done`;
    const { stderr } = await this.host.lab.run('sh', ['-c', all], { env: CLIENT });
    return stderr.includes('database space exceeded');
  }

  /** Takes all the room that is left for its data. */
  async fillDisk(): Promise<void> {
    await this.host.lab.run('sh', ['-c', `cat /dev/zero >${FILLER}`]);
  }

  async emptyDisk(): Promise<void> {
    await this.host.lab.run('rm', ['-f', FILLER]);
  }
}

function memberName({ number }: NetworkHost): string {
  return `m${number}`;
}

export class EtcdLab {
  readonly network: Network;
  readonly members: readonly ClusterMember[];
  /** Of those that use the cluster. */
  readonly hosts: readonly NetworkHost[];
  private readonly labs: readonly Lab[];

  private constructor(
    network: Network,
    members: readonly ClusterMember[],
    hosts: readonly NetworkHost[],
    labs: readonly Lab[],
  ) {
    this.network = network;
    this.members = members;
    this.hosts = hosts;
    this.labs = labs;
  }

  /**
   * Opens the roots, and starts the members.
   *
   * @param share directories that all hosts share
   * @param isOnDisk members write to this machine's disk, as in service, and their disks cannot be filled; otherwise to memory
   * @throws Error
   */
  static async open({
    members: memberCount = 3,
    hosts: hostCount = 0,
    share = [],
    isOnDisk = false,
  }: {
    readonly members?: number;
    readonly hosts?: number;
    readonly share?: readonly string[];
    readonly isOnDisk?: boolean;
  } = {}): Promise<EtcdLab> {
    const labs: Lab[] = [];
    const openOne = async (hostname: string, shared: readonly string[]): Promise<Lab> => {
      const lab = await openLab('ours', shared, undefined, { offline: true, hostname });
      labs.push(lab);
      return lab;
    };
    try {
      const network = await Network.open(await openOne('bridge', []));
      const attached: NetworkHost[] = [];
      for (let number = 1; number <= memberCount; number++)
        attached.push(await network.attach(await openOne(`member${number}`, []), number));
      const cluster = attached.map((host) => `${memberName(host)}=http://${host.address}:${PEERS}`).join();
      const members: ClusterMember[] = [];
      for (const host of attached) {
        const { lab } = host;
        // The lab's directory alone is no memory: see root.sh.
        const disk = `${lab.directory}/etcd`;
        await lab.run('mkdir', ['-p', DATA, disk]);
        const kind = isOnDisk ? ['--bind', disk] : ['-t', 'tmpfs', '-o', `size=${DATA_MB}m`, 'etcd'];
        const { code, stderr } = await lab.run('mount', [...kind, DATA]);
        if (code !== 0) throw new Error(stderr);
        members.push(new ClusterMember(host, cluster));
      }
      const hosts: NetworkHost[] = [];
      for (let number = 1; number <= hostCount; number++)
        hosts.push(await network.attach(await openOne(`host${number}`, share), 100 + number));
      const lab = new EtcdLab(network, members, hosts, labs);
      for (const member of members) member.start();
      await lab.healthy();
      return lab;
    } catch (error) {
      for (const lab of labs) await lab.close();
      throw error;
    }
  }

  /** As `etcd_endpoints` has them. */
  get endpoints(): string[] {
    return this.members.map(({ url }) => url);
  }

  /** The member that leads, as a majority must agree. */
  async leader(): Promise<ClusterMember | undefined> {
    for (const member of this.members) if (await member.leads()) return member;
    return undefined;
  }

  /** Waits until every member serves writes. @throws Error with its log */
  async healthy(limit = 30_000): Promise<void> {
    for (const member of this.members) {
      await eventually(
        `etcd member ${member.name} serves`,
        async () => {
          if (!member.isRunning) throw new GivenUp(member.log);
          await member.control('endpoint', 'health');
          return true;
        },
        limit,
      );
    }
  }

  /** As an operator does it who finds etcd full. @throws Error when a member does not answer: then it must be done again */
  async makeRoom(): Promise<void> {
    const [first] = this.members;
    if (first === undefined) return;
    try {
      await first.control('compaction', '--physical', String(await first.revision()));
    } catch (error) {
      // Nothing was written since the last time.
      if (!String(error).includes('has been compacted')) throw error;
    }
    for (const member of this.members) await member.control('defrag');
    await first.control('alarm', 'disarm');
    const alarms = await first.control('alarm', 'list');
    if (alarms.trim() !== '') throw new Error(alarms);
  }

  async close(): Promise<void> {
    for (const lab of this.labs) await lab.close();
  }
}
