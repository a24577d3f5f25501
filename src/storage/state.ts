/** State of the helpers that outlives a restart. */
import { descriptor, object, optional, type StateOf, text, u32, whole } from '../state/state.ts';

/** A helper process: its place, the daemon's end of its socket, and its pid once it has answered. */
export const storageHelper = object({ id: whole, key: text, name: text, socket: descriptor, pid: optional(u32) });
export type HelperState = StateOf<typeof storageHelper>;

/** A helper that has ended: its id, which files that it had are on record with, and the pid of its process. */
export const endedHelper = object({ id: whole, pid: u32 });
export type EndedHelperState = StateOf<typeof endedHelper>;
