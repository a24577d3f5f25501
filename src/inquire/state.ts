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
};

export function subscriptionState({ subscribed, missed }: Subscriber): Whole<ObjectOf<typeof subscriptionFields>> {
  return { 'x-subscribed': subscribed ? true : undefined, 'x-missed': subscribed ? missed : undefined };
}

export const inquiry = object({
  counters: map(whole),
  /** How many acquires were refused. */
  refused: whole,
  /** The last of them, encoded by refusals.ts. */
  refusals: base64,
});
export type InquiryState = StateOf<typeof inquiry>;
