import { posix } from './posix.ts';

/**
 * Ends the process as process.exit does, but does not wait for the runtime's threads: one that compiles in the background and needs
 * memory collected waits for the main thread, and process.exit would wait for it for ever.
 */
export function exitProcess(status: number): never {
  process.emit('exit', status);
  return posix.exit(status);
}
