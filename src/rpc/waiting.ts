/**
 * A call whose answer comes later: because the resource's owner is being ended, and in future because a storage or another
 * host has not answered yet. The handler throws a Waiting, and the connection makes the same call again, from its bytes, when
 * the wait is over. Until then
 *
 * - the connection is not read from, so a client has one call under way at most, as with C;
 * - everybody else is served;
 * - the end of the connection forgets the call;
 * - a re-execution carries the call's bytes, like those of any message that was received and not served, and the new program
 *   makes the call itself.
 *
 * It is no error, but a handler says it by throwing, from however deep it finds that out. It must therefore have changed nothing by the time it throws, or find what it has begun when it is called again.
 */
export class Waiting extends Error {
  /** Calls `done` once, later, when the call is to be made again. Returns what forgets it. */
  readonly begin: (done: () => void) => () => void;

  constructor(begin: (done: () => void) => () => void) {
    super('the answer comes later');
    this.begin = begin;
  }
}
