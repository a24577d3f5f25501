/**
 * What the entries of the record are (see src/store/record.ts): each a change of the state, in JSON, in the very descriptions of the
 * state document. Descriptors stand in them by the names that they have in the service manager's store, as the numbers of names.ts:
 * those stay what they are when another process gets the descriptors.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { processIdentity } from '../daemon/state.ts';
import { logState } from '../log/logging.ts';
import { watchedOwner } from '../lockd/state.ts';
import { inquiry } from '../inquire/state.ts';
import { hold } from '../lockspace/state.ts';
import { list, object, optional, type StateOf, u32, whole } from '../state/state.ts';

/** Words that entries begin with. */
export const EntryKind = {
  /** The process that writes, and what it has been through. */
  PROCESS: 'process',
  /** A server without its clients: its name, it. */
  SERVER: 'server',
  /** A client has come or changed: its server's name, it, when its process started or null. */
  CLIENT: 'client',
  /** A client is gone: its server's name, its id. */
  LEFT: 'left',
  /** A lockspace's directory. */
  LOCKSPACE: 'lockspace',
  /** A resource, whatever was there before: directory, it without its holds, those. */
  RESOURCE: 'resource',
  /** One more hold: directory, name, it. */
  HOLD: 'hold',
  /** Another hold at an index: directory, name, index, it. */
  CHANGED: 'changed',
  /** Holds are gone: directory, name, their indexes in ascending order. */
  DROPPED: 'dropped',
  /** The ends of owners that holds are part of: directory, name, pairs of index and id. */
  ENDING: 'ending',
  /** Nobody holds a resource any more, and its file is about to be unlinked and unlocked: directory, name. */
  RELEASING: 'releasing',
  /** A resource is gone: directory, name. */
  RELEASED: 'released',
  /** The end of an owner has begun or changed: it. */
  END: 'end',
  /** The end of an owner is done: its id. */
  ENDED: 'ended',
  /** Settings: {@link settings}. */
  SETTINGS: 'settings',
} as const;

/** The process that writes the record. */
export const recorder = object({
  process: processIdentity,
  pid: u32,
  /** How often it has executed itself again, and how often the daemon has died. */
  restarts: whole,
  deaths: whole,
  /** When the process began to serve, milliseconds since 1970. */
  started: whole,
});
export type RecorderState = StateOf<typeof recorder>;

/** A hold, with its owner's pid, and the round of the poller in which it was acquired if its call may be unanswered. */
export const recordedHold = object({ pid: u32, hold, round: optional(whole) });
export type RecordedHold = StateOf<typeof recordedHold>;

/** Of the daemon itself, what has no entries of its own. */
export const settings = object({
  inquiry,
  timeout: optional(u32),
  log: optional(logState),
  watched: optional(list(watchedOwner)),
});
export type Settings = StateOf<typeof settings>;

/** Of several texts in JSON. */
export function entry(kind: (typeof EntryKind)[keyof typeof EntryKind], ...parts: readonly string[]): ByteString {
  return `["${kind}",${parts.join()}]`;
}
