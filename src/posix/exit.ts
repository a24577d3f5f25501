/** Ending the process. */
import { posix } from './posix.ts';

/**
 * Ends it as process.exit does, without waiting for the runtime's threads. One that compiles in the background, and just then
 * needs memory collected, waits for the main thread; process.exit waits for it; and so a process that was told to end stays.
 */
export function exitProcess(status: number): never {
  process.emit('exit', status);
  return posix.exit(status);
}
