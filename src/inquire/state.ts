/** State of the inquire program that outlives a restart. */
import {
  base64,
  boolean,
  map,
  object,
  type ObjectOf,
  optional,
  type StateOf,
  type Whole,
  whole,
} from '../state/state.ts';
import type { Subscriber } from './subscriptions.ts';

/** Of a client. */
export const subscriptionFields = {
  'x-subscribed': optional(boolean),
  /** The number of events it has missed. */
  'x-missed': optional(whole),
  /** It knows events of locks that were lost. */
  'x-losses': optional(boolean),
};

export function subscriptionState({
  subscribed,
  missed,
  knowsLosses,
}: Subscriber): Whole<ObjectOf<typeof subscriptionFields>> {
  return {
    'x-subscribed': subscribed ? true : undefined,
    'x-missed': subscribed ? missed : undefined,
    'x-losses': subscribed && knowsLosses === true ? true : undefined,
  };
}

export const inquiry = object({
  counters: map(whole),
  /** How many acquires were refused. */
  refused: whole,
  /** The last of them, encoded by refusals.ts. */
  refusals: base64,
});
export type InquiryState = StateOf<typeof inquiry>;

/** The last death of a daemon that this process or one before it has taken over from. Without signal and status it is not known how. */
export const lastDeath = object({
  /** Milliseconds since 1970. */
  time: whole,
  /** It was killed by this signal. */
  signal: optional(whole),
  /** It ended by itself, with this status. */
  status: optional(whole),
  /** For how long after its end no client was served, in milliseconds. Undefined while or where that is not known. */
  gap: optional(whole),
});
export type LastDeath = StateOf<typeof lastDeath>;
