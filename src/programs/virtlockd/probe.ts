/** Tests whether files could be opened or made, and leaves nothing behind. */
import {
  accessSync,
  closeSync,
  constants,
  openSync,
  type BigIntStats,
  readlinkSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import type { ByteString } from '../../../xdr/codec.ts';
import { toPath } from '../../posix/bytes.ts';
import { strerror } from '../../posix/posix.ts';
import { fileIdOf } from '../../proc/descriptors.ts';
import { descriptorsOn } from '../../proc/open-files.ts';

class ProbeError extends Error {}

/** O_TMPFILE of <fcntl.h>: a file without a name, which ends with its close. */
const O_TMPFILE = 0o20200000;
/** The most links that are followed, as in the kernel. */
const LINKS = 40;

/**
 * Tests whether a file could be opened for writing, and made if it is missing.
 *
 * @param room bytes that must fit
 * @throws ProbeError
 */
export function probeFile(name: ByteString, room: number): void {
  const file = toPath(name);
  attempt(`failed to open ${name}`, () => {
    const found = statSync(file, { bigint: true, throwIfNoEntry: false });
    if (found === undefined) probeNewFile(targetOf(file), room);
    else if (found.isFIFO() && !isOpenInParent(found)) {
      // An open would not harm, but its close would: a reader ends when the last writer has closed the FIFO.
      throw new ProbeError(`${name} is a FIFO, which is waited for while nobody reads it`);
    } else openAndClose(file);
  });
}

/** Whether the parent has the FIFO open: then its reader has another writer beside us. */
function isOpenInParent(fifo: BigIntStats): boolean {
  return descriptorsOn(process.ppid, fileIdOf(fifo)).length > 0;
}

function openAndClose(file: Buffer): void {
  const { O_WRONLY, O_CREAT, O_APPEND, O_NONBLOCK, O_NOCTTY } = constants;
  // O_CREAT counts for an existing file, too: the kernel may refuse it in a sticky directory.
  closeSync(openSync(file, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY, 0o600));
}

/** The path at which a file would be made: follows dangling links. */
function targetOf(file: Buffer): Buffer {
  let at: Buffer = file;
  for (let link = 0; link < LINKS; link++) {
    let to: Buffer;
    try {
      to = readlinkSync(at, 'buffer');
    } catch {
      return at;
    }
    at = to.toString('latin1').startsWith('/') ? to : Buffer.concat([directoryOf(at), Buffer.from('/'), to]);
  }
  return at;
}

function directoryOf(file: Buffer): Buffer {
  return Buffer.from(dirname(file.toString('latin1')), 'latin1');
}

function probeNewFile(file: Buffer, room: number): void {
  const directory = directoryOf(file);
  let fd: number;
  try {
    fd = openSync(directory, constants.O_WRONLY | O_TMPFILE, 0o600);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EOPNOTSUPP' && code !== 'ENOTSUP' && code !== 'EISDIR' && code !== 'EINVAL') throw error;
    // This file system has no such files, so only the directory's mode is tested.
    accessSync(directory, constants.W_OK | constants.X_OK);
    return;
  }
  try {
    if (room > 0) writeSync(fd, Buffer.alloc(room));
  } finally {
    closeSync(fd);
  }
}

/** Tests whether a directory exists, or could be made with its parents. @throws ProbeError */
export function probeDirectory(directory: ByteString): void {
  attempt(`unable to create ${directory}`, () => {
    const found = statSync(toPath(directory), { throwIfNoEntry: false });
    if (found?.isDirectory() === true) return;
    if (found !== undefined) throw new ProbeError(`${directory} is no directory`);
    const parent = dirname(directory);
    probeDirectory(parent);
    const above = toPath(parent);
    if (statSync(above, { throwIfNoEntry: false }) !== undefined) accessSync(above, constants.W_OK | constants.X_OK);
  });
}

function attempt(what: string, step: () => void): void {
  try {
    step();
  } catch (error) {
    if (error instanceof ProbeError) throw error;
    throw new ProbeError(`${what}: ${strerror((error as NodeJS.ErrnoException).errno ?? 0)}`);
  }
}
