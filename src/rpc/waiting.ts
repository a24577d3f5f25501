/**
 * Thrown by a handler whose answer comes later, as when the resource's owner is being ended. The connection keeps the call's bytes,
 * and makes the call again when the wait is over. Until then
 *
 * - nothing is read from the connection, so a client has one call in progress at most, as with C;
 * - all other connections are served;
 * - the end of the connection forgets the call;
 * - a re-execution carries the bytes along, and the new program makes the call.
 *
 * A handler must have changed nothing when it throws this, or find what it has begun when it is called again.
 */
export class Waiting extends Error {
  /** Calls `done` once, later, when the call is to be made again. Returns a function that forgets it. */
  readonly begin: (done: () => void) => () => void;

  constructor(begin: (done: () => void) => () => void) {
    // It is no fault, and nobody reads where it was thrown: to find that out would take longer than the rest.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super('the answer comes later');
    Error.stackTraceLimit = stackTraceLimit;
    this.begin = begin;
  }
}

/** Something that ends once. */
export interface Ending {
  /** Calls `done` at its end. Returns a function that cancels that. */
  wait(done: () => void): () => void;
}

/** The calls that wait for one event. */
export class Waiters implements Ending {
  private readonly waiting = new Set<() => void>();

  wait(done: () => void): () => void {
    this.waiting.add(done);
    return () => {
      this.waiting.delete(done);
    };
  }

  /** Has the calls made again. */
  wake(): void {
    const all = [...this.waiting];
    this.waiting.clear();
    for (const done of all) done();
  }
}
