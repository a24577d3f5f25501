/** What only this implementation keeps of a daemon over a restart, beside clients and locks. */
import { inquiry } from '../inquire/state.ts';
import { ownerEnd } from '../lockd/state.ts';
import { logState } from '../log/logging.ts';
import { descriptor, list, type ObjectOf, optional, u32 } from '../state/state.ts';

export const daemonFields = {
  /** The epoll descriptor that all connections hang on; a C daemon has no use for it. */
  epoll: optional(descriptor),
  /** Seconds of idleness after which the daemon ends, if set at run time. */
  timeout: optional(u32),
  /** Log settings made at run time. */
  log: optional(logState),
  inquiry: optional(inquiry),
  /** Owners that are being ended: their locks are held until their processes are gone. */
  ending: optional(list(ownerEnd)),
};

export type DaemonState = ObjectOf<typeof daemonFields>;
