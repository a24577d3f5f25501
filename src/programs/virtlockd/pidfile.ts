/** The pid file: locked and written at the start, kept open, removed at the end. */

import { closeSync, fstatSync, ftruncateSync, openSync, readSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import type { ByteString } from '../../../xdr/codec.ts';
import { toPath } from '../../posix/bytes.ts';
import { mayHang } from '../../proc/route.ts';
import { EXIT, StartupError } from '../../libvirt/exit.ts';

export interface PidFileHost {
  readonly pid: number;
  /** Takes a write lock on `length` bytes from `start` without waiting: 0 or a negative errno. */
  lock(fd: number, start: number, length: number): number;
  strerror(errno: number): string;
}

/** A pid file that is ours. */
export class PidFile {
  /** Open and locked; a re-execution hands it on, so that no other daemon gets the file. */
  readonly fd: number;
  private readonly path: ByteString;

  private constructor(path: ByteString, fd: number) {
    this.path = path;
    this.fd = fd;
  }

  /**
   * Takes the pid file. An empty path means none, as in C.
   *
   * @throws StartupError (exit 1) with the text C logs
   */
  static acquire(path: ByteString, host: PidFileHost): PidFile | null {
    if (path === '') return null;
    for (;;) {
      const fd = attempt(host, `Failed to open pid file '${path}'`, () => openSync(toPath(path), 'a+', 0o644));
      const status = host.lock(fd, 0, 1);
      if (status < 0) {
        closeSync(fd);
        throw new StartupError(EXIT.pidFile, `Failed to acquire pid file '${path}': ${host.strerror(-status)}`);
      }
      // Its last holder may have removed it between our open and our lock.
      if (isNamed(fd, path) === false) {
        closeSync(fd);
        continue;
      }
      attempt(host, `Failed to write to pid file '${path}'`, () => {
        ftruncateSync(fd, 0);
        writeSync(fd, String(host.pid));
      });
      return new PidFile(path, fd);
    }
  }

  /** Adopts the predecessor's descriptor, or acquires the file if that is another one by now. */
  static adopt(path: ByteString, fd: number, host: PidFileHost): PidFile | null {
    if (path === '') return null;
    if (isNamed(fd, path) === false) {
      const acquired = PidFile.acquire(path, host);
      if (acquired === null || !isSameFile(acquired.fd, fd)) return acquired;
      // The file has got its name back. One of the two must be closed, which drops the lock: it is taken again.
      closeSync(acquired.fd);
    }
    // The restart has kept the lock, or it is taken again here: an error of the file system proves nothing.
    host.lock(fd, 0, 1);
    return new PidFile(path, fd);
  }

  /** Unlinks the file, if it is still ours, and drops the lock. */
  remove(): void {
    try {
      if (isNamed(this.fd, this.path) === true) unlinkSync(toPath(this.path));
    } catch {
      // Its directory may be gone, or not ours any more.
    }
    closeSync(this.fd);
  }
}

/** Whether the descriptor is a pid file, with a name or without, of a process with this pid. */
export function isPidFileOf(fd: number, pid: number): boolean {
  try {
    const text = Buffer.alloc(32);
    return text.toString('latin1', 0, readSync(fd, text, 0, text.length, 0)) === String(pid);
  } catch {
    return false;
  }
}

/** Whether the path still names the open file; undefined if that is unknown, as on storage that may hang. */
function isNamed(fd: number, path: ByteString): boolean | undefined {
  if (mayHang(path)) return undefined;
  try {
    const [open, named] = [fstatSync(fd), statSync(toPath(path), { throwIfNoEntry: false })];
    return open.dev === named?.dev && open.ino === named.ino;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTDIR' ? false : undefined;
  }
}

function isSameFile(one: number, other: number): boolean {
  const [first, second] = [fstatSync(one), fstatSync(other)];
  return first.dev === second.dev && first.ino === second.ino;
}

function attempt<Result>(host: PidFileHost, what: string, step: () => Result): Result {
  try {
    return step();
  } catch (error) {
    const errno = Math.abs((error as NodeJS.ErrnoException).errno ?? constants.errno.EIO);
    throw new StartupError(EXIT.pidFile, `${what}: ${host.strerror(errno)}`);
  }
}
