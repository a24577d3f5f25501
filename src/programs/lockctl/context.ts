/** What a command is given beside its own options. */
import { once } from 'node:events';
import path from 'node:path';
import type { ByteString } from '../../../xdr/codec.ts';
import { workingDirectoryOf } from '../../proc/processes.ts';
import type { InquireClient } from './inquire-client.ts';

export interface Context {
  /** The daemon that the command line means. @throws CommandError when it means none */
  daemon(): InquireClient;
  /**
   * From now on the first SIGINT or SIGTERM does not end the process, but aborts this signal: for what goes on until then,
   * or must not be left half done.
   */
  untilInterrupted(): AbortSignal;
}

/** A name from the command line as the bytes that it was typed as; see arguments.ts. */
export function toBytes(text: string): ByteString {
  if (text.isWellFormed()) return Buffer.from(text, 'utf8').toString('latin1');
  return text.replaceAll(/[\udc80-\udcff]/g, (byte) => String.fromCharCode(byte.charCodeAt(0) - 0xdc00));
}

/** Bytes as an absolute path, seen from the working directory. */
export function toAbsolute(bytes: ByteString): ByteString {
  // process.cwd() would be decoded.
  return path.resolve(bytes.startsWith('/') ? '/' : workingDirectoryOf('self'), bytes);
}

export { toPath } from '../../posix/bytes.ts';

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
  if (!signal.aborted) await once(signal, 'abort');
}
