/** What of the inquire program's memory outlives a restart. */
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
  /** It gets events. */
  'x-subscribed': optional(boolean),
  /** How many of those it could not be told of. */
  'x-missed': optional(whole),
};

export function subscriptionState({ subscribed, missed }: Subscriber): Whole<ObjectOf<typeof subscriptionFields>> {
  return { 'x-subscribed': subscribed ? true : undefined, 'x-missed': subscribed ? missed : undefined };
}

export const inquiry = object({
  counters: map(whole),
  /** How many acquires were refused. */
  refused: whole,
  /** The last of those, read by who knows the form, when somebody asks. */
  refusals: base64,
});
export type InquiryState = StateOf<typeof inquiry>;
