/** The file that carries the state document across exec. */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import type { ByteString } from '../../xdr/codec.ts';
import { logger } from '../log/log.ts';
import { closeUnlessHeld, findKnown, isHeld } from '../lockspace/files.ts';
import { protectPath, unprotectPath } from '../lockspace/own-files.ts';
import { bytesOf, toPath } from '../posix/bytes.ts';
import { runChild, SpawnError } from '../posix/child.ts';
import { mayHang } from '../proc/route.ts';
import { inSlices } from '../rpc/slices.ts';

const log = logger('locking.lock_daemon');

/** As C makes it. */
const MODE = 0o700;

/** Protects the file as long as it has its name: the next program opens and closes it before it holds anything. */
const PURPOSE = 'restart state';

/** The file cannot be written or must not be trusted; `message` says why. */
export class StateFileError extends Error {
  /** Another try may succeed. */
  readonly isPassing: boolean;

  constructor(message: string, isPassing = false) {
    super(message);
    this.isPassing = isPassing;
  }
}

/**
 * Writes the document to a new file. Replaces a file that an earlier daemon of this user left; anything else (a symbolic link, another
 * user's file) was planted, and is refused.
 *
 * @throws StateFileError
 */
export function writeStateFile(path: ByteString, pieces: Iterable<Buffer>): void {
  const writing = write(path, pieces);
  while (writing.next().done !== true);
}

/** As {@link writeStateFile}, in slices. */
export async function writeStateFileInSlices(path: ByteString, pieces: Iterable<Buffer>): Promise<void> {
  await inSlices(write(path, pieces), () => undefined);
}

function* write(path: ByteString, pieces: Iterable<Buffer>): Generator<undefined> {
  let fd: number;
  try {
    removeOwn(path);
    fd = openSync(toPath(path), constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, MODE);
  } catch (error) {
    if (error instanceof StateFileError) throw error;
    throw new StateFileError(`cannot create ${path}: ${bytesOf((error as Error).message)}`);
  }
  // By its name: another process may remove it.
  protectPath(path, PURPOSE);
  try {
    for (const piece of pieces) {
      for (let at = 0; at < piece.length;) at += writeSync(fd, piece, at);
      yield;
    }
  } catch (error) {
    removeStateFile(path);
    throw new StateFileError(`cannot write ${path}: ${bytesOf((error as Error).message)}`);
  } finally {
    // During the slices a client may have acquired it.
    closeUnlessHeld(fd);
  }
}

/** How long a child may take to make a file on storage that may hang, in milliseconds. */
const PROBE_LIMIT_MS = 5000;
const PROBE = ': >"$1" && rm -f -- "$1"';

/** @throws StateFileError when the file is on storage that may hang, and does */
export async function refuseHanging(path: ByteString): Promise<void> {
  if (!mayHang(path)) return;
  const args = ['-c', PROBE, 'sh', `${path}.probe`];
  try {
    const { status, end } = await runChild({ file: 'sh', args, directory: '/', limit: PROBE_LIMIT_MS });
    if (status !== 0) throw new StateFileError(`no file can be made beside ${path}: that ${end}`);
  } catch (error) {
    throw error instanceof SpawnError
      ? new StateFileError(`no file can be made beside ${path}: ${error.message}`)
      : error;
  }
}

/** Removes the file, if it exists. */
export function removeStateFile(path: ByteString): void {
  try {
    if (findKnown(path).own?.purpose === PURPOSE) unprotectPath(path);
    unlinkSync(toPath(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log.warn(bytesOf((error as Error).message));
  }
}

function removeOwn(path: ByteString): void {
  if (refusePlanted(path)) removeStateFile(path);
}

/** Gives the file the name by which the next program looks for it. @throws StateFileError */
export function publishStateFile(candidate: ByteString, path: ByteString): void {
  try {
    removeOwn(path);
    renameSync(toPath(candidate), toPath(path));
    protectPath(path, PURPOSE);
  } catch (error) {
    throw error instanceof StateFileError ? error : new StateFileError(bytesOf((error as Error).message));
  }
}

/**
 * Whether the file exists.
 *
 * @throws StateFileError when it is not a regular file of this user, or has another use
 */
export function refusePlanted(path: ByteString): boolean {
  const found = lstatSync(toPath(path), { throwIfNoEntry: false });
  if (found === undefined) return false;
  if (!found.isFile()) throw new StateFileError(`${path} is no regular file: remove it`);
  if (found.uid !== process.geteuid?.()) {
    throw new StateFileError(`${path} belongs to user ${found.uid}: remove it`);
  }
  if (isHeld(path)) throw new StateFileError(`${path} is held as a resource: it must be released first`);
  const own = findKnown(path).own;
  if (own !== undefined && own.purpose !== PURPOSE) throw new StateFileError(`${path} is the daemon's ${own.purpose}`);
  return true;
}

/**
 * The bytes of the file, or null when there is none.
 *
 * @throws StateFileError when it is not a regular file of this user
 */
export function readStateFile(path: ByteString): Buffer | null {
  let fd: number;
  try {
    // Never a held resource: the close would drop its lock.
    if (isHeld(path)) throw new StateFileError(`${path} is a held resource`);
    fd = openSync(toPath(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    if (error instanceof StateFileError) throw error;
    if (code === 'ELOOP') throw new StateFileError(`${path} is a symbolic link`);
    throw new StateFileError(`cannot open ${path}: ${bytesOf(message)}`, true);
  }
  try {
    const found = fstatSync(fd);
    if (!found.isFile()) throw new StateFileError(`${path} is no regular file`);
    if (found.uid !== process.geteuid?.()) throw new StateFileError(`${path} belongs to user ${found.uid}`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
