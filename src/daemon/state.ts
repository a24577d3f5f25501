/** State of the daemon that outlives a restart and that only this implementation has. */
import { etcd } from '../etcd/state.ts';
import { inquiry, lastDeath } from '../inquire/state.ts';
import { doubtfulPeer, origin, ownerEnd, watchedOwner } from '../lockd/state.ts';
import { LogSettingError } from '../log/levels.ts';
import { logger, logging } from '../log/log.ts';
import { logState } from '../log/logging.ts';
import { endedHelper, storageHelper } from '../storage/state.ts';
import { formatName } from '../store/names.ts';
import { startTimeOf } from '../proc/identity.ts';
import { bootId } from '../proc/kernel.ts';
import { descriptor, list, object, optional, type StateOf, text, u32, type Whole, whole } from '../state/state.ts';
import type { Daemon } from './daemon.ts';

const log = logger('locking.lock_daemon');

/** Which process it is, beyond its pid. */
export const processIdentity = object({
  /** When it started, in clock ticks since boot. */
  start: whole,
  /** The id of that boot; empty where it was not readable. */
  boot: text,
});
type ProcessState = StateOf<typeof processIdentity>;

/** What may change at any time, and is recorded when it does, so that it outlives a death as well. */
const changingFields = {
  lastDeath: optional(lastDeath),
  /** Seconds of idleness after which the daemon ends, if set at run time. */
  timeout: optional(u32),
  /** Log settings made at run time. */
  log: optional(logState),
  /** Owners whose connections ended with a daemon that died, but not by themselves. */
  watched: optional(list(watchedOwner)),
  /** Peers whose connections have ended, and of which the kernel could not say yet which processes they are. */
  doubtful: optional(list(doubtfulPeer)),
  /** Absent from older releases, which do not hand it on. */
  origin: optional(origin),
  /** Processes that call file systems which may hang, and keep files locked there. */
  storage: optional(list(storageHelper)),
  /** Those of them that have ended. */
  endedStorage: optional(list(endedHelper)),
  /** The lease of the host in etcd, and the processes for it. */
  etcd: optional(etcd),
};
export const changing = object({ inquiry, ...changingFields });
export type ChangingState = StateOf<typeof changing>;

export const own = object({
  /** How often the daemon has executed itself again, or has left all to the next process. */
  restarts: whole,
  /** How often a daemon has died before this process took over from it. */
  deaths: optional(whole),
  /** When the process began to serve, milliseconds since 1970. */
  started: whole,
  /** Descriptor of the record that outlives this process: see store/record.ts. */
  record: optional(descriptor),
  /** Names of the descriptors in the service manager's store, as the manager has them, with spaces between: see store/names.ts. */
  stored: optional(text),
  /** Descriptor of the queue of files that outlive this process: see store/in-flight.ts. */
  queue: optional(descriptor),
  /** The process that wrote the document. */
  process: optional(processIdentity),
  /** Descriptor of the locked pid file, so that no other daemon gets it. */
  pidFile: optional(descriptor),
  /** The epoll descriptor that all connections hang on; a C daemon has no use for it. */
  epoll: optional(descriptor),
  inquiry: optional(inquiry),
  ...changingFields,
  /** Owners that are being ended: their locks are held until their processes are gone. */
  ending: optional(list(ownerEnd)),
});
export type OwnState = StateOf<typeof own>;

/** Undefined where /proc does not report it. */
export function ownProcess(): ProcessState | undefined {
  const start = startTimeOf(process.pid);
  return typeof start === 'number' ? { start, boot: bootId() } : undefined;
}

/** Read once: exec does not change it. */
let identity: ProcessState | undefined;

export function changingState(daemon: Daemon): Whole<ChangingState> {
  const { logging, changedTimeout, lastDeath, inquiry, ownerReaper, storages } = daemon;
  const helpers = storages.state;
  const endedHelpers = storages.endedState;
  return {
    timeout: changedTimeout,
    log: logging.isChanged ? logging.state : undefined,
    lastDeath,
    inquiry: inquiry.state,
    watched: ownerReaper.watched.length === 0 ? undefined : ownerReaper.watched,
    doubtful: ownerReaper.doubtful.length === 0 ? undefined : ownerReaper.doubtful,
    origin: ownerReaper.origin,
    storage: helpers.length === 0 ? undefined : helpers,
    endedStorage: endedHelpers.length === 0 ? undefined : endedHelpers,
    etcd: daemon.etcd?.state,
  };
}

export function ownState(daemon: Daemon): Whole<OwnState> {
  const { settings, ownerReaper, poller } = daemon;
  const { life, pidFile, keeper } = settings;
  return {
    ...changingState(daemon),
    restarts: life.restarts,
    deaths: life.deaths === 0 ? undefined : life.deaths,
    started: life.started,
    record: keeper?.record,
    stored: keeper?.names?.map(formatName).join(' '),
    queue: keeper?.queue,
    process: (identity ??= ownProcess()),
    pidFile,
    epoll: poller.descriptor < 0 ? undefined : poller.descriptor,
    ending: ownerReaper.count === 0 ? undefined : ownerReaper.unfinished.map(({ state }) => state),
  };
}

/** Failure, such as for a log file that is gone, does not keep the daemon from serving. */
export function restoreLog({ log: state }: OwnState): void {
  if (state === undefined) return;
  try {
    logging.apply(state);
    logging.isChanged = true;
  } catch (error) {
    if (!(error instanceof LogSettingError)) throw error;
    log.error(`Log settings are lost: ${error.message}`);
  }
}

/** Restores each field; null where another step of taking over does. */
const restorers: { readonly [K in keyof Required<OwnState>]: ((daemon: Daemon, state: OwnState) => void) | null } = {
  // Settings of the daemon, which is made with them.
  restarts: null,
  deaths: null,
  started: null,
  pidFile: null,
  lastDeath: (daemon, { lastDeath }) => {
    daemon.lastDeath = lastDeath;
  },
  // With the daemon's keeper.
  record: null,
  stored: null,
  queue: null,
  // Proves whose document it is.
  process: null,
  // Once the late clients are known, before the daemon listens.
  epoll: null,
  timeout: (daemon, { timeout }) => {
    if (timeout !== undefined) daemon.setTimeout(timeout);
  },
  // By restoreLog, before anything else is logged.
  log: null,
  inquiry: (daemon, { inquiry }) => {
    if (inquiry !== undefined) daemon.inquiry.restore(inquiry);
  },
  watched: (daemon, { watched }) => {
    for (const owner of watched ?? []) daemon.ownerReaper.watch(owner);
  },
  doubtful: (daemon, { doubtful }) => {
    for (const peer of doubtful ?? []) daemon.ownerReaper.resumePeer(peer);
  },
  origin: (daemon, { origin }) => {
    daemon.ownerReaper.origin = origin ?? { clients: 0 };
  },
  storage: (daemon, { storage }) => {
    daemon.storages.restore(storage ?? []);
  },
  endedStorage: (daemon, { endedStorage }) => {
    daemon.storages.restoreEnded(endedStorage ?? []);
  },
  // The daemon is made with it: lockspaces are adopted after.
  etcd: null,
  // After the resources, for each has holds.
  ending: null,
};

export function restoreOwnState(daemon: Daemon, state: OwnState): void {
  for (const restore of Object.values(restorers)) restore?.(daemon, state);
}
