/** The files that a program opens and closes at its start, before it knows which resources are held. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteString } from '../../../xdr/codec.ts';
import { bytesOf } from '../../posix/bytes.ts';
import { directoryOf, installRoot } from '../../posix/root.ts';
import { mappedFilesOf } from '../../proc/processes.ts';

/** Files of the loader and the runtime, and the standard input of children. */
const SYSTEM_FILES = ['/etc/ld.so.cache', '/etc/ld.so.preload', '/etc/ssl/openssl.cnf', '/etc/localtime', '/dev/null'];

/** The files of this program and its runtime; some have several names. @throws Error when they cannot be listed at present */
export function programFiles(): ByteString[] {
  const fsExt = directoryOf('fs-ext');
  const ofFsExt = ['package.json', 'fs-ext.js', 'build/Release/fs_ext.node'];
  const files = [
    process.execPath,
    ...process.argv.slice(1, 2),
    join(installRoot, 'package.json'),
    ...['bin', 'dist'].flatMap((part) => filesIn(join(installRoot, part))),
    ...(fsExt === null ? [] : ofFsExt.map((name) => join(fsExt, name))),
  ];
  return [...new Set([...SYSTEM_FILES, ...files.map(bytesOf), ...mappedFiles()])];
}

function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory).map((name) => join(directory, name));
  } catch (error) {
    return noneIfMissing(error);
  }
}

/** Above all the runtime's libraries. */
function mappedFiles(): ByteString[] {
  try {
    return mappedFilesOf('self');
  } catch (error) {
    return noneIfMissing(error); // no /proc, as in a bare chroot
  }
}

function noneIfMissing(error: unknown): [] {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
  throw error;
}
