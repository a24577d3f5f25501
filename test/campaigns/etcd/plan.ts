/** The faults of a run, from its seed. */
import { Random } from '../../../src/programs/fuzz/random.ts';

/** What can go wrong, and what each does. */
export const faults = {
  'host-cut': 'a host is cut off from etcd',
  'host-deaf': 'a host gets nothing from etcd, which gets all from it',
  'host-mute': 'etcd gets nothing from a host, which gets all from it',
  'host-torn': 'a host reaches one member only',
  'host-slow': "a host's link is slow",
  'answers-lost': 'etcd does what a host asks, which gets no answers',
  'late-answer': 'answers to a host come late, and etcd gets nothing from it any more by then',
  'late-daemon': 'a daemon is stopped while its slow link brings an answer, goes on later, and is cut off from then on',
  'member-cut': 'a member is cut off from all',
  'member-deaf': 'a member gets nothing from the others',
  'member-slow': "a member's link is slow",
  'leader-cut': 'the leader is cut off from the other members, and hosts reach it',
  'leader-mute': 'the other members get nothing from the leader',
  'member-stop': 'a member is stopped (SIGSTOP)',
  'member-kill': 'a member is killed',
  'leader-stop': 'the leader is stopped (SIGSTOP)',
  'leader-kill': 'the leader is killed',
  'quorum-loss': 'two members are killed',
  'disk-full': "a member's disk is full",
  'no-space': 'etcd is full (alarm NOSPACE), until an operator has made room',
  'daemon-stop': 'a daemon is stopped (SIGSTOP)',
  'daemon-kill': 'a daemon is killed, and another started',
  'daemon-again': 'a daemon executes itself again (SIGUSR1)',
  'guard-kill': "a daemon's guard is killed",
  'owner-stop': 'an owner is stopped (SIGSTOP)',
  'owner-kill': 'an owner is killed',
  clock: "a host's daemon gets another wall clock",
  compaction: 'the history of etcd is compacted',
} as const;
export type FaultName = keyof typeof faults;

export const faultNames = Object.keys(faults) as FaultName[];

export interface Fault {
  readonly name: FaultName;
  /** Chooses the host, member or owner: to be taken modulo their number. */
  readonly target: number;
  /** Milliseconds before it, and until it ends. */
  readonly pause: number;
  readonly duration: number;
  /** A hundredth of what it has: how slow, how far. */
  readonly degree: number;
}

/** The faults of a seed, without an end. They depend on the seed, the names and the lease alone. */
export function* faultsOf(seed: number, names: readonly FaultName[], leaseSeconds: number): Generator<Fault, never> {
  const random = new Random(seed);
  const lease = leaseSeconds * 1000;
  for (;;) {
    const name = random.pick(names);
    if (name === undefined) throw new Error('no faults');
    // Half of them are shorter than a lease: what has begun must be taken back then. Of late answers the beginning must be.
    const isLong = random.oneIn(2);
    const duration = isLong ? lease + random.below(lease * 1.5) : 200 + random.below(lease);
    yield {
      name,
      target: random.below(1 << 16),
      pause: random.below(lease),
      duration: name.startsWith('late-') ? lease * 2.5 : duration,
      degree: random.below(100),
    };
  }
}
