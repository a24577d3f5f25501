/**
 * The inquire program: who holds what. It is this implementation's own, on the admin socket, whose peers are the daemon's own user.
 * A C daemon answers its calls as those of any unknown program (code 39).
 *
 * Its number is "inqu" in ASCII, as that of libvirt's keepalive program is "keep". libvirt's others are 0x2000808N, 0x06900690 and
 * 0x0EA7BEEF.
 *
 * Lists come in pages, so that other clients do not wait for a whole list. A first call has cursor 0; `next` of the result is the
 * cursor of the next page, and 0 behind the last. With a filter, a page may be empty and not be the last. An entry that exists from
 * the first page to the last comes exactly once. A cursor belongs to its connection and serves one call. The daemon forgets it after
 * a while or when it re-executes itself: the list then begins again.
 */
import { noFlags, procedure, type Program } from '../program.ts';
import { bool, i32, list, optional, string, struct, u32, u53, u64, union, type ValueOf } from '../schema.ts';
import { LOCK_STRING_MAX } from './lock.ts';

/** The most entries in a page. A call may ask for fewer, and a page that takes long to make is shorter. */
export const PAGE_MAX = 500;
/** The most holds in one entry of a page. A lock with more comes as several entries. */
export const HOLDS_MAX = 500;
/** The most changes in one event. */
export const CHANGES_MAX = 2000;

/** Flags of LOCKS. LOOK_AT_FILES: compare the file at each path with the held one. No file is opened. */
export const LocksFlag = { LOOK_AT_FILES: 1 } as const;

/** The source of an owner's details. */
export const Identity = {
  /** It registered with them. */
  REGISTERED: 0,
  /** Only its pid is known, and the rest is from its process's command line. */
  GUESSED: 1,
  /** Only its pid is known. */
  UNKNOWN: 2,
} as const;

/** The file at a held lock's path at present. */
export const FileState = {
  /** Nor is it by the daemon itself where its storage may hang. */
  NOT_LOOKED: 0,
  /** The held one. */
  SAME: 1,
  /** Another one. */
  REPLACED: 2,
  /** No file. */
  GONE: 3,
  /** The path cannot be stat'ed. */
  UNREADABLE: 4,
  /** The held descriptor itself is of another file than before: a defect. */
  BROKEN: 5,
  /** virt-lockctl's own, of the paths that it stats itself: the storage does not answer in time. */
  NO_ANSWER: 6,
  /** There is none: the lock is a key in etcd, or the lockspace is kept there. */
  IN_ETCD: 7,
} as const;

/** Whether a lock on storage that hosts may share is still held, as its file server says. */
export const Holding = {
  /** It was not asked, or cannot be. */
  NOT_ASKED: 0,
  /** Nothing speaks against it. */
  HELD: 1,
  /** It was asked, and the answer says nothing, or does not come. */
  UNKNOWN: 2,
  /** Another process or host has it. */
  TAKEN: 3,
  /** It is not held, and nobody else is known to have it. */
  GONE: 4,
  /** It was lost and is held again: in between another host may have had it. */
  REGAINED: 5,
} as const;

/** The holder of the lock that an acquire was refused for. */
export const HolderKind = {
  /** An owner that this daemon knows. */
  OWNER: 0,
  /** Another process of this host, whose pid is known. */
  PROCESS: 1,
  /** One that the kernel does not identify: of an OFD lock, or on another host. */
  ELSEWHERE: 2,
} as const;

const ENDPOINTS_MAX = 64;
/** Owners that are named of a lock in etcd. */
export const ETCD_OWNERS_MAX = 32;

const text = string(LOCK_STRING_MAX);
const flags = u32;

/** The UUID has 36 characters, all zeros if it is not known. */
const ownerInfo = struct('owner_info', { pid: u32, id: u32, name: text, uuid: string(36), identity: u32 });
export type OwnerInfo = ValueOf<typeof ownerInfo>;

/** `since`: milliseconds since 1970; `client`: the id of the connection that acquired it; each 0 where unknown. */
const holdInfo = struct('hold_info', { owner: ownerInfo, since: u53, client: u53 });
export type HoldInfo = ValueOf<typeof holdInfo>;

/** A held resource, or a part of one with many holds: `firstHold` is the index of its first hold among `holdCount`. */
const lockInfo = struct('lock_info', {
  lockspace: text,
  name: text,
  path: text,
  /** Of the first acquire: SHARED 1, AUTOCREATE 2. */
  flags,
  descriptor: i32,
  /** As stat's st_dev and st_ino. */
  device: u53,
  inode: u64,
  /** See {@link FileState}. */
  file: u32,
  holdCount: u32,
  firstHold: u32,
  holds: list(holdInfo, HOLDS_MAX),
});
export type LockInfo = ValueOf<typeof lockInfo>;

/** Selects the locks that fit all given fields. */
export const lockFilter = struct('lock_filter', {
  /** The lockspace's directory; empty for the default one. */
  lockspace: optional(text),
  /** The resource's exact name. */
  resource: optional(text),
  /** A file: the lock's own path, the same inode by another name, or the disk whose path's SHA-256 is the resource's name. */
  path: optional(text),
  pid: optional(u32),
  uuid: optional(string(36)),
  /** The owner's name: the VM's. */
  owner: optional(text),
});
export type LockFilter = ValueOf<typeof lockFilter>;

const lockspaceInfo = struct('lockspace_info', {
  directory: text,
  locks: u32,
  /** The file at its path at present: SAME (a directory), REPLACED (another type), GONE, UNREADABLE. See {@link FileState}. */
  file: u32,
});
export type LockspaceInfo = ValueOf<typeof lockspaceInfo>;

export const clientInfo = struct('client_info', {
  /** `virtlockd` or `admin`. */
  server: string(16),
  id: u53,
  pid: u32,
  uid: u32,
  gid: u32,
  /** Seconds since 1970; 0 where unknown. */
  connectedAt: u53,
  restricted: bool,
  /** It gets events of changes. */
  subscribed: bool,
  /** Bytes of a message that was received in part, and of replies that it has not taken. */
  received: u32,
  unsent: u32,
  /** As registered; absent before, and always for clients of `admin`. */
  owner: optional(ownerInfo),
  /** The peer is the registered owner itself: when it ends, its locks are released. */
  isOwner: bool,
  /** Locks of the registered owner. */
  locks: u32,
});
export type ClientInfo = ValueOf<typeof clientInfo>;

/** `kind`: see {@link HolderKind}. `owner` is the first of `owners`. */
const holderInfo = struct('holder_info', { kind: u32, owner: ownerInfo, owners: u32 });
export type HolderInfo = ValueOf<typeof holderInfo>;

/** The most notes of one refusal. */
export const NOTES_MAX = 4;

/** What a host has noted in a lock file on storage that hosts share. Nothing proves that it is true. */
const holderNote = struct('holder_note', {
  host: string(64),
  hostUuid: optional(string(36)),
  /** Of the first owner there. */
  name: string(256),
  uuid: string(36),
  /** In the pid namespace of that host. */
  pid: u32,
  shared: bool,
  /** Milliseconds since 1970. */
  since: u53,
  owners: u32,
});
export type HolderNote = ValueOf<typeof holderNote>;

/** The notes that were in the file when an acquire was refused. */
export const refusalNotes = struct('refusal_notes', { sequence: u53, notes: list(holderNote, NOTES_MAX) });
export type RefusalNotes = ValueOf<typeof refusalNotes>;

/** A refused acquire. Names are cut to 4096 bytes. */
export const refusalInfo = struct('refusal_info', {
  /** Counts refusals since the daemon began to serve. */
  sequence: u53,
  /** Milliseconds since 1970. */
  time: u53,
  lockspace: text,
  name: text,
  path: text,
  flags,
  /** The error as the client got it. */
  code: i32,
  reason: text,
  owner: ownerInfo,
  client: u53,
  /** Absent if no holder was the reason: for example a file that cannot be opened, or an unknown lockspace. */
  holder: optional(holderInfo),
});
export type RefusalInfo = ValueOf<typeof refusalInfo>;

/** What ends an owner's holds, besides a release. */
export const OwnerEnding = {
  /** The end of its own connection, or the release of each lock by a client that speaks for it. */
  CONNECTION: 0,
  /** The end of its process, which the daemon watches. */
  PROCESS: 1,
  /** They are ending. */
  BEGUN: 2,
  /** Nothing: its pid names no process here (0, or one of another pid namespace). */
  RELEASE: 3,
  /** Nothing: it is not known which process it is. */
  UNKNOWN: 4,
} as const;

/** Whether the process of an owner lives. */
export const OwnerLife = {
  ALIVE: 0,
  /** Proven: by its start time, or because no process had the pid when the lock was acquired. */
  DEAD: 1,
  /** No process has the pid, but it is not known whether it is of this pid namespace: a C daemon does not hand that on. */
  ABSENT: 2,
  UNKNOWN: 3,
} as const;

/** An owner with holds. Several processes may have had one pid, one after the other: each is an owner. */
const ownerState = struct('owner_state', {
  owner: ownerInfo,
  holds: u32,
  /** See {@link OwnerEnding}. */
  ending: u32,
  /** See {@link OwnerLife}. */
  life: u32,
});
export type OwnerState = ValueOf<typeof ownerState>;

/** Flags of RELEASE_DEAD. LOCAL: the pid is of the daemon's pid namespace, also where the daemon does not know that. */
export const ReleaseDeadFlag = { LOCAL: 1 } as const;

/** A count since the daemon began to serve. Readers must accept unknown names. */
export const counter = struct('counter', { name: string(64), value: u53 });

const serverInfo = struct('server_info', { clients: u32, maxClients: u32, isFull: bool });

const statusInfo = struct('status_info', {
  /** The libvirt version whose dialect the daemon speaks: major * 1000000 + minor * 1000 + micro. */
  libvirtVersion: u32,
  /** This implementation's name and version. */
  implementation: string(256),
  pid: u32,
  /** The program that SIGUSR1 executes. */
  program: text,
  /** When the process began to serve, and when it executed its present program: milliseconds since 1970. */
  started: u53,
  executed: u53,
  restarts: u32,
  lockServer: serverInfo,
  adminServer: serverInfo,
  lockspaces: u32,
  locks: u32,
  /** Processes that hold locks. */
  owners: u32,
  /** Owners that the daemon is ending, because their connection ended while they held locks. */
  killing: u32,
  subscribers: u32,
  /** Open descriptors, and their limit (0: none). */
  descriptors: u32,
  descriptorLimit: u32,
  /** Bytes. */
  residentMemory: u53,
  /** One line each. */
  warnings: list(string(1024), 64),
});
export type StatusInfo = ValueOf<typeof statusInfo>;

/** The most calls that are named of one storage. */
export const CALLS_MAX = 8;

/** A call for storage that has no answer yet. `path` is cut to 4096 bytes, and empty for a held file. `pid`: the owner's; 0: of none. */
const storageCall = struct('storage_call', { path: text, pid: u32, since: u53 });

/** A file system, or a device node, that a helper process calls in place of the daemon. */
const storageInfo = struct('storage_info', {
  /** The mount point or the node. */
  name: text,
  /** The helper, which has the locks there; 0 while it has not answered. */
  pid: u32,
  /** Since when it has not answered, in milliseconds since 1970; 0 when it does. */
  hangsSince: u53,
  /** Calls without an answer, of which `calls` has the first. */
  callCount: u32,
  calls: list(storageCall, CALLS_MAX),
});
export type StorageInfo = ValueOf<typeof storageInfo>;

/** This host's part of the locks in etcd. Leases are in decimal digits, and empty where there is none. */
const etcdInfo = struct('etcd_info', {
  endpoints: list(text, ENDPOINTS_MAX),
  lockspaces: list(text, ENDPOINTS_MAX),
  prefix: text,
  lease: text,
  /** The lease's time to live, in seconds, and for how long it was not kept alive, in milliseconds. */
  seconds: u32,
  age: u53,
  /** Until owners are killed, unless the lease is kept alive, in milliseconds. */
  left: u53,
  /** The lease has ended, and its owners are not all gone. */
  isOver: bool,
  /** Why etcd did not answer the last time; empty: it did. */
  failure: text,
  /** Resources that this host holds there, and the processes that would be killed. */
  locks: u32,
  owners: u32,
  /** Its guard would end every owner. */
  isGuarded: bool,
  /** The guard's process; 0: there is none. */
  guard: u32,
  /** It feeds a watchdog. */
  hasWatchdog: bool,
  /** The watchdog's device, as configured; empty: none; `none`: none, as the operator knows. */
  watchdog: text,
  /** It reboots the host when owners cannot be killed. */
  reboots: bool,
});
export type EtcdInfo = ValueOf<typeof etcdInfo>;

/** As its host says it. */
const etcdOwner = struct('etcd_owner', { name: text, uuid: text, pid: u32 });

/** A lock that a host has in etcd. */
const etcdLock = struct('etcd_lock', {
  path: text,
  shared: bool,
  host: text,
  /** The host's. */
  lease: text,
  /** The revision of etcd at which it was granted, in decimal digits: a fencing token. */
  revision: text,
  since: u53,
  owners: list(etcdOwner, ETCD_OWNERS_MAX),
  /** Of all owners. */
  ownerCount: u32,
});
export type EtcdLock = ValueOf<typeof etcdLock>;

/** A host with a lease. */
const etcdHost = struct('etcd_host', {
  host: text,
  lease: text,
  /** The daemon's process there, and since when it has the lease. */
  pid: u32,
  since: u53,
  /** The lease's time to live, and what is left of it, in seconds. */
  seconds: u32,
  left: u32,
});
export type EtcdHost = ValueOf<typeof etcdHost>;

/** Of a lock on storage that hosts may share. Times are milliseconds since 1970. */
const lockState = struct('lock_state', {
  lockspace: text,
  name: text,
  path: text,
  /** See {@link Holding}. */
  holding: u32,
  /** When it was last known to be held; 0: never. */
  confirmed: u53,
  /** When its loss was found, and when it was taken again; 0: neither. */
  lost: u53,
  regained: u53,
  /** The process that took it, as the file system names it, on whichever host; 0: it does not. */
  pid: u32,
  /** Why it is not known; else empty. */
  reason: string(1024),
});
export type LockState = ValueOf<typeof lockState>;

/** Flags of LOCK_STATES. ASK: have the file servers asked first, for 2 s at most. */
export const LockStatesFlag = { ASK: 1 } as const;

/** Flags of SUBSCRIBE. LOCKS_LOST: locks that are lost as well. */
export const SubscribeFlag = { LOCKS_LOST: 1 } as const;

/** A re-execution that the daemon refused. `time`: milliseconds since 1970. */
export const refusedRestart = struct('refused_restart', { time: u53, reason: string(1024) });
export type RefusedRestart = ValueOf<typeof refusedRestart>;

/** The lock with this one hold, which came or went. */
const holdChange = struct('hold_change', { time: u53, lock: lockInfo });
/** The lock with its first holds, which was lost or is taken again. `holding`: see {@link Holding}. `confirmed`, `pid`: see lock_state. */
const lossChange = struct('loss_change', { time: u53, lock: lockInfo, holding: u32, confirmed: u53, pid: u32 });
/** A client of the lock server that came or went. */
const clientChange = struct('client_change', { time: u53, client: u53, pid: u32 });

export const ChangeType = {
  ACQUIRED: 1,
  RELEASED: 2,
  REFUSED: 3,
  CONNECTED: 4,
  DISCONNECTED: 5,
  /** So many changes were not sent, because the subscriber did not take them fast enough. */
  MISSED: 6,
  /** The daemon has re-executed itself at this time; the subscription goes on. */
  RESUMED: 7,
  /** Only for subscribers that asked for it: earlier ones do not know it. */
  LOST: 8,
} as const;

export const change = union('change', {
  [ChangeType.ACQUIRED]: { name: 'acquired', of: holdChange },
  [ChangeType.RELEASED]: { name: 'released', of: holdChange },
  [ChangeType.REFUSED]: { name: 'refused', of: refusalInfo },
  [ChangeType.CONNECTED]: { name: 'connected', of: clientChange },
  [ChangeType.DISCONNECTED]: { name: 'disconnected', of: clientChange },
  [ChangeType.MISSED]: { name: 'missed', of: u53 },
  [ChangeType.RESUMED]: { name: 'resumed', of: u53 },
  [ChangeType.LOST]: { name: 'lost', of: lossChange },
});
export type Change = ValueOf<typeof change>;

const page = { cursor: u64, limit: u32, flags } as const;

export const inquireProcedures = {
  locks: procedure(1, {
    doc: 'Lists held locks, in pages. Flags: LOOK_AT_FILES 1.',
    args: struct('locks_args', { filter: lockFilter, ...page }),
    result: struct('locks_result', { locks: list(lockInfo, PAGE_MAX), next: u64 }),
    flags: { allowed: LocksFlag.LOOK_AT_FILES, reportedAs: 'inquireLocks' },
  }),
  lockspaces: procedure(2, {
    doc: 'Lists lockspaces, in pages.',
    args: struct('lockspaces_args', page),
    result: struct('lockspaces_result', { lockspaces: list(lockspaceInfo, PAGE_MAX), next: u64 }),
    flags: noFlags('inquireLockspaces'),
  }),
  clients: procedure(3, {
    doc: 'Lists the clients of both servers, in pages.',
    args: struct('clients_args', page),
    result: struct('clients_result', { clients: list(clientInfo, PAGE_MAX), next: u64 }),
    flags: noFlags('inquireClients'),
  }),
  refusals: procedure(4, {
    doc: 'Lists the recorded refusals whose sequence is above `after`, oldest first.',
    args: struct('refusals_args', { after: u53, flags }),
    result: struct('refusals_result', { refusals: list(refusalInfo, PAGE_MAX), more: bool }),
    flags: noFlags('inquireRefusals'),
  }),
  counters: procedure(5, {
    doc: 'Returns counts since the daemon began to serve.',
    args: struct('counters_args', { flags }),
    result: struct('counters_result', { counters: list(counter, 256) }),
    flags: noFlags('inquireCounters'),
  }),
  status: procedure(6, {
    doc: 'Returns the state of the daemon.',
    args: struct('status_args', { flags }),
    result: statusInfo,
    flags: noFlags('inquireStatus'),
  }),
  subscribe: procedure(7, {
    doc: 'Sends every change from now on as an event CHANGES, also after the daemon has re-executed itself. Flags: LOCKS_LOST 1.',
    args: struct('subscribe_args', { flags }),
    flags: { allowed: SubscribeFlag.LOCKS_LOST, reportedAs: 'inquireSubscribe' },
  }),
  unsubscribe: procedure(8, {
    doc: 'Stops the events.',
    args: struct('unsubscribe_args', { flags }),
    flags: noFlags('inquireUnsubscribe'),
  }),
  refusedRestart: procedure(9, {
    doc: 'Returns why the last re-execution was refused, if one was since the daemon executed its present program.',
    args: struct('refused_restart_args', { flags }),
    result: struct('refused_restart_result', { refused: optional(refusedRestart) }),
    flags: noFlags('inquireRefusedRestart'),
  }),
  owners: procedure(10, {
    doc: 'Lists the owners that hold locks, in pages; with a pid only those with that pid.',
    args: struct('owners_args', { pid: optional(u32), ...page }),
    result: struct('owners_result', { owners: list(ownerState, PAGE_MAX), next: u64 }),
    flags: noFlags('inquireOwners'),
  }),
  releaseDead: procedure(11, {
    doc: 'Releases the holds of owners with this pid that are proven dead: all, or those on one resource. Flags: LOCAL 1.',
    args: struct('release_dead_args', { pid: u32, lockspace: optional(text), resource: optional(text), flags }),
    result: struct('release_dead_result', { released: u32 }),
    flags: { allowed: ReleaseDeadFlag.LOCAL, reportedAs: 'inquireReleaseDead' },
  }),
  storages: procedure(12, {
    doc: 'Lists the storage that helper processes call in place of the daemon, and the calls that wait for it.',
    args: struct('storages_args', { flags }),
    result: struct('storages_result', { storages: list(storageInfo, 64) }),
    flags: noFlags('inquireStorages'),
  }),
  refusalNotes: procedure(13, {
    doc: 'Lists the notes of other hosts that belong to recorded refusals whose sequence is above `after`, oldest first.',
    args: struct('refusal_notes_args', { after: u53, flags }),
    result: struct('refusal_notes_result', { notes: list(refusalNotes, PAGE_MAX) }),
    flags: noFlags('inquireRefusalNotes'),
  }),
  lockStates: procedure(14, {
    doc: 'Lists the locks on storage that hosts may share, and whether they are still held, in pages. Flags: ASK 1.',
    args: struct('lock_states_args', page),
    result: struct('lock_states_result', { locks: list(lockState, PAGE_MAX), next: u64 }),
    flags: { allowed: LockStatesFlag.ASK, reportedAs: 'inquireLockStates' },
  }),
  etcd: procedure(15, {
    doc: "Returns this host's part of the locks in etcd, if lockspaces are kept there.",
    args: struct('etcd_args', { flags }),
    result: struct('etcd_result', { etcd: optional(etcdInfo) }),
    flags: noFlags('inquireEtcd'),
  }),
  etcdLocks: procedure(16, {
    doc: 'Asks etcd for the locks of all hosts, in pages: all, or those of the resource at a path. `after` is empty, or `next` of the page before.',
    args: struct('etcd_locks_args', { path: optional(text), after: text, flags }),
    result: struct('etcd_locks_result', { locks: list(etcdLock, PAGE_MAX), next: text }),
    flags: noFlags('inquireEtcdLocks'),
  }),
  etcdHosts: procedure(17, {
    doc: 'Asks etcd for the hosts that have a lease, in pages. `after` is empty, or `next` of the page before.',
    args: struct('etcd_hosts_args', { after: text, flags }),
    result: struct('etcd_hosts_result', { hosts: list(etcdHost, PAGE_MAX), next: text }),
    flags: noFlags('inquireEtcdHosts'),
  }),
  etcdRevoke: procedure(18, {
    doc: 'Revokes the lease of another host, which frees its locks: whoever asks for it must know that nothing of that host writes any more.',
    args: struct('etcd_revoke_args', { lease: text, flags }),
    flags: noFlags('inquireEtcdRevoke'),
  }),
} as const;

/** The program's only event, a message of type MESSAGE with serial 0: changes in their order. */
export const changesEvent = {
  number: 100,
  payload: struct('changes', { changes: list(change, CHANGES_MAX) }),
} as const;

export const inquireProgram: Program<typeof inquireProcedures> = {
  name: 'inquire',
  number: 0x696e7175,
  version: 1,
  doc: 'Who holds what, which acquires were refused, and the state of the daemon. Not a program of libvirt.',
  procedures: inquireProcedures,
};
