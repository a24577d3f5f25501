/** A member of etcd, daemons that keep a lockspace there, and owners that are processes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { EtcdMember, type EtcdOptions } from '../../../src/lab/etcd.ts';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { mountsOf, nameOf, processes, unlessGone } from '../../../src/proc/processes.ts';
import { lock, type Peer } from '../../../src/lab/wire.ts';

/** The directory that is kept in etcd. */
export const SPACE = '/var/lib/libvirt/lockd/etcd';

export interface SceneOptions extends EtcdOptions {
  /** Of the lease. */
  readonly seconds?: number;
  /** More lines of virtlockd.conf. */
  readonly configuration?: string;
  /** Directories that hosts see as they are. */
  readonly share?: readonly string[];
}

export interface Owner {
  readonly pid: number;
  readonly process: ChildProcess;
  readonly ended: Promise<unknown>;
}

const scenes: EtcdScene[] = [];

export class EtcdScene {
  readonly member: EtcdMember;
  readonly daemons: LockDaemon[] = [];
  private readonly options: SceneOptions;
  private readonly owners: Owner[] = [];
  private readonly peers: Peer[] = [];

  private constructor(member: EtcdMember, options: SceneOptions) {
    this.member = member;
    this.options = options;
  }

  static async open(options: SceneOptions = {}): Promise<EtcdScene> {
    const scene = new EtcdScene(await EtcdMember.start(options), options);
    scenes.push(scene);
    return scene;
  }

  /** Closes all that are open. */
  static async closeAll(): Promise<void> {
    for (const scene of scenes.splice(0)) await scene.close();
  }

  get configuration(): string {
    const { seconds = 30, configuration = '' } = this.options;
    return `log_level = 1
etcd_endpoints = [ "${this.member.endpoint}" ]
etcd_lockspaces = [ "${SPACE}" ]
etcd_lease_seconds = ${seconds}
${configuration}
`;
  }

  /** One more host. */
  async daemon(): Promise<LockDaemon> {
    const lab = await openLab('ours', this.options.share);
    const daemon = await startDaemon('ours', { lab, configuration: this.configuration });
    this.daemons.push(daemon);
    return daemon;
  }

  /** A process that ignores SIGTERM, as a guest that is slow to end. */
  owner(): Owner {
    const child = spawn('sh', ['-c', 'trap "" TERM; echo; exec sleep 1000'], { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    const owner = { pid: child.pid ?? 0, process: child, ended };
    this.owners.push(owner);
    return owner;
  }

  /** A client that has not registered an owner. */
  async visit(daemon: LockDaemon): Promise<Peer> {
    const peer = await daemon.connect();
    this.peers.push(peer);
    return peer;
  }

  /** libvirtd, on behalf of an owner. */
  async connect(daemon: LockDaemon, pid = this.owner().pid, name = 'guest'): Promise<Peer> {
    const peer = await this.visit(daemon);
    await peer.must(lock.register({ pid, name }));
    return peer;
  }

  /** As {@link connect}, with the lockspace. */
  async join(daemon: LockDaemon, pid?: number, name?: string): Promise<Peer> {
    const peer = await this.connect(daemon, pid, name);
    await peer.must(lock.createLockspace(SPACE));
    return peer;
  }

  /** Keys of locks in etcd, without the prefix. */
  keys(): string[] {
    return [...this.member.keys('/virtlockd/locks/').keys()].map((key) => key.slice('/virtlockd/locks'.length)).sort();
  }

  private async close(): Promise<void> {
    this.member.signal('SIGCONT');
    for (const peer of this.peers) peer.close();
    for (const { process: owner } of this.owners) owner.kill('SIGKILL');
    for (const daemon of this.daemons) {
      await daemon.stop();
      await daemon.lab.close();
    }
    await this.member.close();
  }
}

/** The pids of the guards in the daemon's root. */
export function guardsOf({ pid }: LockDaemon): number[] {
  const mounts = mountsOf(pid);
  return processes().filter(
    (one) => unlessGone(() => nameOf(one) === 'virtlockd-guard' && mountsOf(one) === mounts) === true,
  );
}
