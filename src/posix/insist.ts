/** What failed once because something was short, or a file server in trouble, need not fail again. */

const TRIES = 100;
const AGAIN_MS = 20;
/** So often at once: most often an interrupted call, or memory that is there by now. */
const AT_ONCE = 3;

/**
 * Does it again while it throws errors that may pass, and waits meanwhile, for two seconds at most. Nobody is served in that time:
 * it is for what the daemon cannot go on without.
 *
 * @throws what it threw last
 */
export function insist<T>(work: () => T, mayPass: (error: unknown) => boolean = () => true): T {
  for (let tries = 1; ; tries++) {
    try {
      return work();
    } catch (error) {
      if (tries === TRIES || !mayPass(error)) throw error;
    }
    if (tries > AT_ONCE) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, AGAIN_MS);
  }
}
