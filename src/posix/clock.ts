/**
 * The time since some moment, in milliseconds: CLOCK_MONOTONIC, as in systemd's timestamps. As `performance.now()`, for which the
 * runtime loads eleven modules while the clients of a restarted daemon wait.
 */
export function now(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1_000_000;
}
