/** Findings about a host by kind, grouped, and the verdict that follows from them. */
import type { ByteString } from '../../../../xdr/codec.ts';

/** An error: two guests may write to one disk, or guests are killed to prevent that. `info` does not change the verdict. */
export type Severity = 'error' | 'warning' | 'info';
export type Verdict = 'ok' | 'warning' | 'error';

export const KINDS = {
  /** A guest writes to a disk that is not locked for it. */
  'unguarded-disk': 'error',
  /** A guest runs without a lease of its definition. */
  'unguarded-lease': 'error',
  /** The file server has given the lock to another host, or has dropped it. */
  'lost-lock': 'error',
  /** The daemon lists a lock that the kernel does not have. */
  'no-kernel-lock': 'error',
  /** The kernel has a shared lock for an exclusive one. */
  'shared-lock': 'error',
  'replaced-file': 'error',
  'broken-descriptor': 'error',
  'daemon-down': 'error',
  /** The lease in etcd has ended, or is about to: its owners are killed. */
  'etcd-lease': 'error',
  /** Nothing but the daemon would kill owners of locks in etcd at the end of the lease. */
  'etcd-unguarded': 'error',
  /** etcd does not answer, or this host has no lease there. */
  'etcd-silent': 'warning',
  /** A kernel that hangs would keep owners of locks in etcd beyond the lease. */
  'etcd-no-watchdog': 'warning',
  'dead-owner': 'warning',
  /** An owner whose end would not end its locks. */
  'detached-owner': 'warning',
  /** A lock was lost and is held again: another host may have written in between. */
  'regained-lock': 'warning',
  /** The file server does not say whether a lock is held. */
  'unconfirmed-lock': 'warning',
  'gone-file': 'warning',
  'unreadable-file': 'warning',
  /** A QEMU that libvirt did not start writes to a disk without a lock. */
  'unmanaged-qemu': 'warning',
  /** What the daemon itself warns of: limits, owners that it cannot end, a refused restart. */
  'daemon-warning': 'warning',
  /** A guest or a lock that could not be compared. */
  unseen: 'warning',
  /** A daemon has died: this one has taken over from it, or its locks are lost. */
  death: 'info',
  /** Locks that the daemon's death would end. */
  'mortal-locks': 'info',
  /** Locks on file systems of which the kernel keeps no record. */
  'unlisted-locks': 'info',
  'c-daemon': 'info',
} as const satisfies Readonly<Record<string, Severity>>;

export type Kind = keyof typeof KINDS;

interface Item {
  /** A sentence without its full stop. */
  readonly text: string;
  readonly path?: ByteString;
  readonly pid?: number;
  readonly vm?: ByteString;
}

/** Findings of one kind with one way out. */
export interface Group {
  readonly severity: Severity;
  readonly kind: Kind;
  readonly count: number;
  /** A sentence about all of them. */
  readonly title: string;
  readonly items: readonly Item[];
  /** A sentence, and the commands to run. Empty for `info` and where nothing can be done. */
  readonly advice: string;
  readonly commands: readonly string[];
}

export interface Health {
  readonly verdict: Verdict;
  /** One line. */
  readonly summary: string;
  /** `none`: no daemon answers. */
  readonly daemon: 'own' | 'libvirt' | 'none';
  /** Null where the daemon does not say. */
  readonly locks: number | null;
  readonly guests: number;
  readonly findings: readonly Group[];
}

/** Kinds of findings that may be gone the next moment: mostly a guest that starts, pauses or ends between two steps of one look. */
const FLEETING: ReadonlySet<Kind> = new Set([
  'unguarded-disk',
  'unguarded-lease',
  'unmanaged-qemu',
  'dead-owner',
  'detached-owner',
  // The daemon starts another one at once.
  'etcd-unguarded',
]);

/** Collects findings. */
export class Findings {
  private readonly groups = new Map<Kind, { items: Item[]; commands: Set<string>; advice: string }>();
  private readonly before: Findings | undefined;
  private readonly fleeting = new Set<string>();

  /** @param before the findings of a look before this one: of those that may be fleeting, only what was found then counts */
  constructor(before?: Findings) {
    this.before = before;
  }

  /** Only a second look shows which findings last. */
  get isDoubtful(): boolean {
    return this.fleeting.size > 0;
  }

  add(kind: Kind, item: Item, advice = '', ...commands: readonly string[]): void {
    if (FLEETING.has(kind)) {
      const key = `${kind} ${item.pid} ${item.path}`;
      if (this.before?.fleeting.has(key) === false) return;
      this.fleeting.add(key);
    }
    let group = this.groups.get(kind);
    if (group === undefined) {
      group = { items: [], commands: new Set(), advice };
      this.groups.set(kind, group);
    }
    group.items.push(item);
    for (const command of commands) group.commands.add(command);
  }

  /** Errors first, then in the order of {@link KINDS}. */
  list(): Group[] {
    const found: Group[] = [];
    for (const kind of Object.keys(KINDS) as Kind[]) {
      const group = this.groups.get(kind);
      if (group === undefined) continue;
      const { items, commands, advice } = group;
      found.push({
        severity: KINDS[kind],
        kind,
        count: items.length,
        title: TITLES[kind](items.length),
        items,
        advice,
        commands: [...commands],
      });
    }
    return found;
  }
}

const some = (number: number, one: string, many: string): string => `${number} ${number === 1 ? one : many}`;

const TITLES: Readonly<Record<Kind, (count: number) => string>> = {
  'unguarded-disk': (count) => `${some(count, 'disk is', 'disks are')} written without a lock`,
  'unguarded-lease': (count) =>
    `${some(count, 'lease is', 'leases are')} not held by ${count === 1 ? 'its guest' : 'their guests'}`,
  'lost-lock': (count) => `${some(count, 'lock is', 'locks are')} lost on the file server`,
  'no-kernel-lock': (count) => `the kernel does not have ${some(count, 'lock', 'locks')} of the daemon`,
  'shared-lock': (count) => `${some(count, 'exclusive lock is', 'exclusive locks are')} only shared in the kernel`,
  'replaced-file': (count) => `${some(count, 'locked file was', 'locked files were')} exchanged`,
  'broken-descriptor': (count) => `${some(count, 'lock is', 'locks are')} on another file than was locked`,
  'daemon-down': () => 'no lock daemon answers',
  'etcd-lease': () => 'the lease of this host in etcd ends',
  'etcd-unguarded': () => 'no guard would end the owners of locks in etcd',
  'etcd-silent': () => 'etcd does not answer',
  'etcd-no-watchdog': () => 'no hardware watchdog resets this host if it hangs while it has locks in etcd',
  'dead-owner': (count) =>
    `${some(count, 'owner is', 'owners are')} dead and still ${count === 1 ? 'holds' : 'hold'} locks`,
  'detached-owner': (count) => `the locks of ${some(count, 'owner do', 'owners do')} not end with it`,
  'regained-lock': (count) => `${some(count, 'lock was', 'locks were')} lost for a while`,
  'unconfirmed-lock': (count) => `${some(count, 'lock', 'locks')} could not be confirmed by the file server`,
  'gone-file': (count) =>
    `${some(count, 'locked file is', 'locked files are')} gone from ${count === 1 ? 'its path' : 'their paths'}`,
  'unreadable-file': (count) => `${some(count, 'locked file', 'locked files')} cannot be compared`,
  'unmanaged-qemu': (count) =>
    `${some(count, 'disk is', 'disks are')} written without a lock by QEMUs that libvirt did not start`,
  'daemon-warning': (count) => `the daemon has ${some(count, 'warning', 'warnings')}`,
  unseen: (count) => `${some(count, 'thing', 'things')} could not be compared`,
  death: () => 'a lock daemon has died',
  'mortal-locks': () => 'what a death of the daemon would cost',
  'unlisted-locks': (count) => `${some(count, 'lock is', 'locks are')} on storage whose locks the kernel does not list`,
  'c-daemon': () => "libvirt's C daemon serves, which does not report its locks",
};

export function verdictOf(findings: readonly Group[]): Verdict {
  if (findings.some(({ severity }) => severity === 'error')) return 'error';
  return findings.some(({ severity }) => severity === 'warning') ? 'warning' : 'ok';
}
