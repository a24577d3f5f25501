/** Whether files could be opened or made: asked of the kernel in a way that leaves nothing behind. */
import { accessSync, closeSync, constants, openSync, readlinkSync, type Stats, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ByteString } from '../../../xdr/codec.ts';
import { toPath } from '../../posix/bytes.ts';
import { strerror } from '../../posix/posix.ts';
import { descriptorsOn } from '../../proc/descriptors.ts';

/** It could not; `message` says why. */
export class ProbeError extends Error {}

/** O_TMPFILE of <fcntl.h>: a file without a name, which is gone when it is closed. */
const O_TMPFILE = 0o20200000;
/** Links that are followed at most, as the kernel does. */
const LINKS = 40;

/**
 * Whether a file could be opened for writing, and made if it is missing.
 * @param room bytes that are to be written to it
 * @throws ProbeError
 */
export function probeFile(name: ByteString, room: number): void {
  const file = toPath(name);
  attempt(`failed to open ${name}`, () => {
    const found = statSync(file, { throwIfNoEntry: false });
    if (found === undefined) probeNewFile(targetOf(file), room);
    else if (found.isFIFO() && !isOpenInParent(found)) {
      // Asking for one would end it: it reads no more when the last who writes has closed the FIFO.
      throw new ProbeError(`${name} is a FIFO, which is waited for while nobody reads it`);
    } else openAndClose(file);
  });
}

/** Whether the process that wants to know has a file open: then whoever is at its other end has more than us. */
function isOpenInParent({ dev, ino }: Stats): boolean {
  return descriptorsOn(process.ppid, { device: dev, inode: BigInt(ino) }).length > 0;
}

function openAndClose(file: Buffer): void {
  const { O_WRONLY, O_CREAT, O_APPEND, O_NONBLOCK, O_NOCTTY } = constants;
  // Also where it is there O_CREAT counts: the kernel may refuse that in a directory that is everybody's.
  closeSync(openSync(file, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY, 0o600));
}

/** Where a file would be made: links that lead nowhere are followed. */
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
    // A file system that has no such files: then there is less that can be asked.
    accessSync(directory, constants.W_OK | constants.X_OK);
    return;
  }
  try {
    if (room > 0) writeSync(fd, Buffer.alloc(room));
  } finally {
    closeSync(fd);
  }
}

/** Whether there is a directory, or could be made with its parents. @throws ProbeError */
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
