/** State of the guard that outlives a restart and the daemon's death. */
import { descriptor, object, optional, type StateOf, u32 } from '../state/state.ts';

/** The daemon's end of its socket, and its pid once it has answered. */
export const guardProcess = object({ socket: descriptor, pid: optional(u32) });
export type GuardState = StateOf<typeof guardProcess>;
