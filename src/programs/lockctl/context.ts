/** What commands have in common. */
import { realpathSync } from 'node:fs';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { ByteString } from '../../../xdr/codec.ts';
import { toPath } from '../../posix/bytes.ts';
import { workingDirectoryOf } from '../../proc/processes.ts';
import type { InquireClient } from './inquire-client.ts';

export interface Context {
  /** The daemon that `--connect` names. @throws CommandError when that is not understood */
  daemon(): InquireClient;
  /** From now on the first SIGINT or SIGTERM aborts the returned signal and does not end the process. */
  untilInterrupted(): AbortSignal;
}

/** The bytes of a name on the command line; see arguments.ts. */
export function toBytes(text: string): ByteString {
  if (text.isWellFormed()) return Buffer.from(text, 'utf8').toString('latin1');
  return text.replaceAll(/[\udc80-\udcff]/g, (byte) => String.fromCharCode(byte.charCodeAt(0) - 0xdc00));
}

/** An absolute path, relative paths starting at the working directory. */
export function toAbsolute(bytes: ByteString): ByteString {
  // process.cwd() decodes the path.
  return path.resolve(bytes.startsWith('/') ? '/' : workingDirectoryOf('self'), bytes);
}

/** An absolute path without symbolic links; as {@link toAbsolute} where they cannot be followed. Asks the file system. */
export function withoutLinks(bytes: ByteString): ByteString {
  try {
    // realpathSync itself would decode the path.
    return realpathSync.native(toPath(bytes), 'latin1');
  } catch {
    return toAbsolute(bytes);
  }
}

export { toPath } from '../../posix/bytes.ts';

/** Resolves after that many milliseconds, or as soon as the signal aborts. */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await setTimeout(milliseconds, undefined, { signal }).catch(() => undefined);
}
