/** What only this implementation keeps of a daemon over a restart, beside clients and locks. */
import { inquiry } from '../inquire/state.ts';
import { ownerEnd, watchedOwner } from '../lockd/state.ts';
import { logState } from '../log/logging.ts';
import { descriptor, list, type ObjectOf, optional, u32, type Whole } from '../state/state.ts';
import type { Daemon } from './daemon.ts';

export const daemonFields = {
  /** The epoll descriptor that all connections hang on; a C daemon has no use for it. */
  epoll: optional(descriptor),
  /** Seconds of idleness after which the daemon ends, if set at run time. */
  timeout: optional(u32),
  /** Log settings made at run time. */
  log: optional(logState),
  inquiry: optional(inquiry),
  /** Owners whose connections ended with a daemon that died, but not by themselves. */
  watched: optional(list(watchedOwner)),
  /** Owners that are being ended: their locks are held until their processes are gone. */
  ending: optional(list(ownerEnd)),
};

export type DaemonState = ObjectOf<typeof daemonFields>;

export function daemonState({ settings, changedTimeout, inquiry, ownerReaper, poller }: Daemon): Whole<DaemonState> {
  return {
    epoll: poller.descriptor < 0 ? undefined : poller.descriptor,
    timeout: changedTimeout,
    log: settings.logging.state,
    inquiry: inquiry.state,
    watched: ownerReaper.watched.length === 0 ? undefined : ownerReaper.watched,
    ending: ownerReaper.count === 0 ? undefined : ownerReaper.unfinished.map(({ state }) => state),
  };
}

/** How each is taken up again; null where it has its place among the steps of taking over. */
const restorers: { readonly [K in keyof DaemonState]-?: ((daemon: Daemon, state: DaemonState) => void) | null } = {
  // Once the late clients are known, before the daemon listens.
  epoll: null,
  timeout: (daemon, { timeout }) => {
    if (timeout !== undefined) daemon.setTimeout(timeout);
  },
  // Before anything else, so that all that is logged goes where it should.
  log: null,
  inquiry: (daemon, { inquiry }) => {
    if (inquiry !== undefined) daemon.inquiry.restore(inquiry);
  },
  watched: (daemon, { watched }) => {
    for (const { pid, pidfd } of watched ?? []) daemon.ownerReaper.watch(pid, pidfd);
  },
  // Behind the resources: each has holds.
  ending: null,
};

export function restoreDaemonState(daemon: Daemon, state: DaemonState): void {
  for (const restore of Object.values(restorers)) restore?.(daemon, state);
}
