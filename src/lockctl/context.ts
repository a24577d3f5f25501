/** What a command is given beside its own options. */
import type { Daemon } from './daemon.ts';

export interface Context {
  /** The daemon that the command line means. @throws CommandError when it means none */
  daemon(): Daemon;
  /**
   * From now on the first SIGINT or SIGTERM does not end the process, but aborts this signal: for what goes on until then,
   * or must not be left half done.
   */
  untilInterrupted(): AbortSignal;
}

/** A name from the command line as the bytes that it was typed as. */
export function toBytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** Bytes as a path that Node.js can open. */
export function toPath(bytes: string): Buffer {
  return Buffer.from(bytes, 'latin1');
}

/** Resolves after so many milliseconds, or at once when the signal aborts. */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return;
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal?.addEventListener('abort', end);
  });
}

/** Resolves when the signal aborts. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener(
      'abort',
      () => {
        resolve();
      },
      { once: true },
    );
  });
}
