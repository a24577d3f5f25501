/** Command line, environment and working directory, as bytes (see posix/bytes.ts): Node.js has U+FFFD for bytes that are no UTF-8. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { ByteString } from '../../../xdr/codec.ts';
import { bytesOf } from '../../posix/bytes.ts';
import { commandLineOf, environmentOf as environmentOfProcess, workingDirectoryOf } from '../../proc/processes.ts';
import type { Environment } from './systemd.ts';

const MANGLED = '\ufffd';

/** The last words of the command line, as many as `decoded` has. */
export function commandLine(decoded: readonly string[]): ByteString[] {
  if (decoded.some((word) => word.includes(MANGLED))) {
    // Before them come the runtime, its options and the script.
    const words = stringsOf(commandLineOf).slice(-decoded.length);
    if (words.length === decoded.length) return words;
  }
  return decoded.map(bytesOf);
}

/** The environment, with relative directories made absolute, for the working directory may be deleted. */
export function environmentOf(decoded: Readonly<Environment>, directory: ByteString | null): Environment {
  const environment: Environment = {};
  const entries = Object.entries(decoded);
  for (const [name, value = ''] of entries) environment[bytesOf(name)] = bytesOf(value);
  if (entries.some((entry) => entry.join().includes(MANGLED))) {
    for (const entry of stringsOf(environmentOfProcess).reverse()) {
      const name = entry.slice(0, entry.indexOf('='));
      // Of two entries the first counts. Some may have been removed since.
      if (Object.hasOwn(environment, name)) environment[name] = entry.slice(name.length + 1);
    }
  }
  for (const name of ['HOME', 'XDG_RUNTIME_DIR', 'XDG_CONFIG_HOME', 'XDG_CACHE_HOME']) {
    const value = environment[name] ?? '';
    if (value !== '') environment[name] = absolutePath(value, directory);
  }
  return environment;
}

/** Removes from the process's environment the variables that the given one lacks, so that no child inherits them. */
export function forgetTaken(environment: Readonly<Environment>): void {
  for (const name of Object.keys(process.env))
    if (!(bytesOf(name) in environment)) Reflect.deleteProperty(process.env, name);
}

/** The working directory; null when it is deleted or unknown. */
export function workingDirectory(): ByteString | null {
  try {
    const directory = workingDirectoryOf('self');
    // The kernel appends this to the path of a deleted directory, but a name may end so, too.
    if (!directory.endsWith(' (deleted)') || statSync('.').nlink > 0) return directory;
  } catch {
    // No /proc, as in a bare chroot.
    try {
      return bytesOf(process.cwd());
    } catch {
      // It was deleted.
    }
  }
  return null;
}

/** The path as seen from a directory; unchanged if that is unknown. */
export function absolutePath(given: ByteString, directory: ByteString | null): ByteString {
  return directory === null ? given : resolve(directory, given);
}

/** Empty where there is no /proc, as in a bare chroot. */
function stringsOf(read: (pid: 'self') => ByteString[]): ByteString[] {
  try {
    return read('self');
  } catch {
    return [];
  }
}
