const TRIES = 100;
const AGAIN_MS = 20;
/** So often without a pause: mostly for an interrupted call, or a shortage of memory that is over. */
const AT_ONCE = 3;

/**
 * Repeats `work` for two seconds at most, while it throws errors that may pass, such as a shortage or a file server in trouble. The
 * daemon serves nobody in that time, so this is only for work that it cannot go on without.
 *
 * @throws the last error of `work`
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
