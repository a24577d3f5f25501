/** Brings about the faults of a plan, and takes them back. */
import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { EtcdLab, ClusterMember } from '../../../src/lab/etcd-cluster.ts';
import type { NetworkHost } from '../../../src/lab/network.ts';
import type { HostDaemon, OwnerSlot } from './hosts.ts';
import type { Fault, FaultName } from './plan.ts';

export interface Scene {
  readonly lab: EtcdLab;
  readonly daemons: readonly HostDaemon[];
  readonly owners: readonly OwnerSlot[];
  /** How often etcd was full, as it said. */
  timesFull: number;
  /** Kills the guard of a host. */
  readonly killGuard: (daemon: HostDaemon) => void;
}

/** Takes it back. */
type Undo = () => Promise<unknown>;

/** Of a lease, how late answers come: when they are sent for the fourth time. */
const LATE_SHARE = 0.47;
const FOURTH_TIME = 7;
/** Daemons are started again after so many milliseconds. */
const DOWN_MS = 500;
/** How long an operator tries to make room in etcd while other faults go on, in milliseconds. */
const OPERATOR_MS = 40_000;

function chosen<T>(items: readonly T[], { target }: Fault): T {
  const item = items[target % items.length];
  if (item === undefined) throw new Error('nothing to choose from');
  return item;
}

/** A host on which an owner writes, if there is one: most can go wrong there. */
function busyHost({ daemons, owners }: Scene, fault: Fault): NetworkHost {
  for (const owner of owners) owner.count();
  const busy = daemons.filter((daemon) => owners.some((owner) => owner.daemon === daemon && owner.holds));
  return chosen(busy.length > 0 ? busy : daemons, fault).host;
}

const hostsOf = (members: readonly ClusterMember[]): NetworkHost[] => members.map(({ host }) => host);

async function slow(host: NetworkHost, { degree }: Fault): Promise<Undo> {
  // From a link that only delays to one that drops most.
  await host.slow(32 + degree * 4, 500 + degree * 10);
  return async () => host.heal();
}

async function stopMember(member: ClusterMember): Promise<Undo> {
  member.signal('SIGSTOP');
  return Promise.resolve(async () => {
    member.signal('SIGCONT');
    return Promise.resolve();
  });
}

async function killMember(member: ClusterMember): Promise<Undo> {
  await member.kill();
  return async () => {
    member.start();
    return Promise.resolve();
  };
}

async function leaderOf({ lab }: Scene, fault: Fault): Promise<ClusterMember> {
  return (await lab.leader()) ?? chosen(lab.members, fault);
}

/** The host and all its members. */
async function cutHost(scene: Scene, fault: Fault, direction: 'in' | 'out' | 'both'): Promise<Undo> {
  const host = busyHost(scene, fault);
  await host.cut(hostsOf(scene.lab.members), direction);
  return async () => host.heal();
}

async function cutLeader(scene: Scene, fault: Fault, direction: 'out' | 'both'): Promise<Undo> {
  const { lab } = scene;
  const leader = await leaderOf(scene, fault);
  await leader.host.cut(hostsOf(lab.members.filter((member) => member !== leader)), direction);
  return async () => leader.host.heal();
}

/** Before the first fault. */
export async function prepare({ hosts, members }: EtcdLab, leaseSeconds: number): Promise<void> {
  const again = (leaseSeconds * 1000 * LATE_SHARE) / FOURTH_TIME;
  for (const host of hosts) await host.sendAgainAfter(hostsOf(members), again);
}

/** Until all members answer for it. Returns whether they did in time. */
export async function makeRoom(lab: EtcdLab, milliseconds: number): Promise<boolean> {
  for (const until = performance.now() + milliseconds; ;) {
    try {
      await lab.makeRoom();
      return true;
    } catch {
      if (performance.now() > until) return false;
      await pause(1000);
    }
  }
}

const nothing: Undo = async () => Promise.resolve();

const ways: Readonly<Record<FaultName, (scene: Scene, fault: Fault) => Promise<Undo>>> = {
  'host-cut': async (scene, fault) => cutHost(scene, fault, 'both'),
  'host-deaf': async (scene, fault) => cutHost(scene, fault, 'in'),
  'host-mute': async (scene, fault) => cutHost(scene, fault, 'out'),
  'host-torn': async ({ lab, daemons }, fault) => {
    const { host } = chosen(daemons, fault);
    await host.cut(hostsOf(lab.members.filter((member) => member !== chosen(lab.members, fault))));
    return async () => host.heal();
  },
  'host-slow': async ({ daemons }, fault) => slow(chosen(daemons, fault).host, fault),
  'answers-lost': async (scene, fault) => {
    const host = busyHost(scene, fault);
    await host.withhold(hostsOf(scene.lab.members));
    return async () => host.heal();
  },
  'late-answer': async (scene, fault) => {
    const host = busyHost(scene, fault);
    const members = hostsOf(scene.lab.members);
    const lease = fault.duration / 2.5;
    // Whoever counts the lease from an answer counts this much too long: longer than the margin, and the answer comes before that begins.
    const late = lease * LATE_SHARE;
    await host.withhold(members);
    const began = performance.now();
    // One keepalive gets to etcd, and none after it.
    await pause(late * 0.55);
    await host.cut(members, 'out');
    await pause(Math.max(began + late * 0.9 - performance.now(), 0));
    await host.deliver();
    return async () => host.heal();
  },
  'late-daemon': async (scene, fault) => {
    const host = busyHost(scene, fault);
    const daemon = scene.daemons.find((one) => one.host === host);
    const lease = fault.duration / 2.5;
    await host.slow(24 + fault.degree / 2, 1500);
    // A keepalive is under way then, most likely.
    await pause(lease * 0.3);
    daemon?.signal('SIGSTOP');
    await pause(lease * 0.15);
    await host.cut(hostsOf(scene.lab.members));
    await pause(lease * 0.25);
    daemon?.signal('SIGCONT');
    return async () => host.heal();
  },
  'member-cut': async ({ lab, daemons }, fault) => {
    const { host } = chosen(lab.members, fault);
    await host.cut([...hostsOf(lab.members), ...daemons.map((daemon) => daemon.host)].filter((one) => one !== host));
    return async () => host.heal();
  },
  'member-deaf': async ({ lab }, fault) => {
    const { host } = chosen(lab.members, fault);
    await host.cut(
      hostsOf(lab.members).filter((one) => one !== host),
      'in',
    );
    return async () => host.heal();
  },
  'member-slow': async ({ lab }, fault) => slow(chosen(lab.members, fault).host, fault),
  'leader-cut': async (scene, fault) => cutLeader(scene, fault, 'both'),
  'leader-mute': async (scene, fault) => cutLeader(scene, fault, 'out'),
  'member-stop': async ({ lab }, fault) => stopMember(chosen(lab.members, fault)),
  'member-kill': async ({ lab }, fault) => killMember(chosen(lab.members, fault)),
  'leader-stop': async (scene, fault) => stopMember(await leaderOf(scene, fault)),
  'leader-kill': async (scene, fault) => killMember(await leaderOf(scene, fault)),
  'quorum-loss': async ({ lab }, fault) => {
    const kept = chosen(lab.members, fault);
    const undo = await Promise.all(lab.members.filter((member) => member !== kept).map(killMember));
    return async () => Promise.all(undo.map(async (one) => one()));
  },
  'disk-full': async ({ lab }, fault) => {
    const member = chosen(lab.members, fault);
    await member.fillDisk();
    return async () => {
      await member.emptyDisk();
      // It ends when it cannot write.
      member.start();
    };
  },
  'no-space': async (scene, fault) => {
    const { lab } = scene;
    const member = chosen(lab.members, fault);
    if (await member.fillDatabase()) scene.timesFull++;
    return async () => makeRoom(lab, OPERATOR_MS);
  },
  'daemon-stop': async ({ daemons }, fault) => {
    const daemon = chosen(daemons, fault);
    daemon.signal('SIGSTOP');
    return Promise.resolve(async () => {
      daemon.signal('SIGCONT');
      return Promise.resolve();
    });
  },
  'daemon-kill': async ({ daemons }, fault) => {
    const daemon = chosen(daemons, fault);
    await daemon.kill();
    return async () => {
      await pause(DOWN_MS);
      await daemon.start();
    };
  },
  'daemon-again': async ({ daemons }, fault) => {
    chosen(daemons, fault).signal('SIGUSR1');
    return Promise.resolve(nothing);
  },
  'guard-kill': async (scene, fault) => {
    scene.killGuard(chosen(scene.daemons, fault));
    return Promise.resolve(nothing);
  },
  'owner-stop': async ({ owners }, fault) => {
    const owner = chosen(owners, fault);
    owner.signal('SIGSTOP');
    return Promise.resolve(async () => {
      owner.signal('SIGCONT');
      return Promise.resolve();
    });
  },
  'owner-kill': async ({ owners }, fault) => {
    chosen(owners, fault).signal('SIGKILL');
    return Promise.resolve(nothing);
  },
  clock: async ({ daemons }, fault) => {
    const { clockFile } = chosen(daemons, fault);
    // Up to five hours back and forth.
    writeFileSync(clockFile, String((fault.degree - 50) * 360));
    return Promise.resolve(async () => {
      writeFileSync(clockFile, '0');
      return Promise.resolve();
    });
  },
  compaction: async ({ lab }, fault) => {
    const member = chosen(lab.members, fault);
    try {
      await member.control('compaction', String(await member.revision()));
    } catch {
      // It does not answer, or has been compacted to there.
    }
    return nothing;
  },
};

/** @returns what takes it back */
export async function afflict(scene: Scene, fault: Fault): Promise<Undo> {
  return ways[fault.name](scene, fault);
}
