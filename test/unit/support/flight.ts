import type { QueueLink } from '../../../src/store/in-flight.ts';

const EAGAIN = -11;

/** A queue that takes everything. */
export const flight: QueueLink = {
  send: () => 0,
  peek: () => EAGAIN,
  pop: () => 0,
  now: () => 0,
  setTimeout: () => undefined,
};
