/** State of the locks in etcd that outlives a restart. */
import { boolean, descriptor, object, optional, type StateOf, text, u32, whole } from '../state/state.ts';
import { guardProcess } from './guard-state.ts';

/** The host's lease. */
export const lease = object({
  /** In decimal digits. */
  id: text,
  seconds: u32,
  /** The id of the cluster that has granted it. */
  cluster: optional(text),
  /** When the last keepalive that was answered had been sent, or the request for the lease: CLOCK_BOOTTIME in milliseconds. */
  sent: whole,
  /** It has ended, and its owners are being killed. */
  isOver: optional(boolean),
});
export type LeaseState = StateOf<typeof lease>;

export const etcd = object({
  /**
   * EtcdSettings as JSON, without the password: while locks are held there, the next program goes on with them, whatever its configuration
   * says, but for how the host proves itself.
   */
  settings: text,
  lease: optional(lease),
  guard: optional(guardProcess),
  /** The client's process, and the daemon's end of its socket. It ends with the daemon. */
  client: optional(object({ socket: descriptor, pid: u32 })),
});
export type EtcdState = StateOf<typeof etcd>;
