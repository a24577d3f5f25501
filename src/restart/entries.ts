/**
 * The entries of the record (src/store/record.ts). Each is one change of the state, in JSON, by the descriptions of the state document.
 * In place of a descriptor an entry has its name in the service manager's store, as a number (src/store/names.ts): the name stays the
 * same when another process receives the descriptor under another number.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { processIdentity } from '../daemon/state.ts';
import { hold } from '../lockspace/state.ts';
import { boolean, object, optional, type StateOf, text, u32, whole } from '../state/state.ts';

/** The first element of each entry, and the elements after it. */
export const EntryKind = {
  /** The process that writes the record: {@link recorder}. */
  PROCESS: 'process',
  /** A server, without its clients: its name, its state. */
  SERVER: 'server',
  /** A client has connected or changed: its server's name, its state, its process's start time or null. */
  CLIENT: 'client',
  /** A client has disconnected: its server's name, its id. */
  LEFT: 'left',
  /** A lockspace's directory. */
  LOCKSPACE: 'lockspace',
  /** A resource, which replaces one of the same name: directory, its state without its holds, the holds. */
  RESOURCE: 'resource',
  /** One more hold: directory, name, hold. */
  HOLD: 'hold',
  /** A hold is replaced: directory, name, index, hold. */
  CHANGED: 'changed',
  /** Some of the holds are dropped: directory, name, their indexes in ascending order. */
  DROPPED: 'dropped',
  /** Holds are to be released at the ends of their owners: directory, name, pairs of a hold's index and an end's id. */
  ENDING: 'ending',
  /** A resource's last hold is released, and its file is about to be unlinked and unlocked: directory, name. */
  RELEASING: 'releasing',
  /** A resource's file is unlocked and closed: directory, name. */
  RELEASED: 'released',
  /** The end of an owner has begun or changed: its state. */
  END: 'end',
  /** The end of an owner is done: its id. */
  ENDED: 'ended',
  /** What has no entries of its own: `changing` of daemon/state.ts. */
  SETTINGS: 'settings',
} as const;

/** The process that writes the record. */
export const recorder = object({
  process: processIdentity,
  pid: u32,
  /** How often the daemon has been restarted, and how often it has died. */
  restarts: whole,
  deaths: whole,
  /** When the process began to serve, milliseconds since 1970. */
  started: whole,
  /** systemd's id of the run of the unit that the process is. */
  invocation: optional(text),
  /** The process has ended by itself, to leave all to the next one. */
  hasLeft: optional(boolean),
});
export type RecorderState = StateOf<typeof recorder>;

/** A hold with its owner's pid, and the poller's round in which the acquire was read, by which CallMark decides whether it was answered. */
export const recordedHold = object({ pid: u32, hold, round: optional(whole) });
export type RecordedHold = StateOf<typeof recordedHold>;

/** @param parts in JSON */
export function entry(kind: (typeof EntryKind)[keyof typeof EntryKind], ...parts: readonly string[]): ByteString {
  return `["${kind}",${parts.join()}]`;
}
