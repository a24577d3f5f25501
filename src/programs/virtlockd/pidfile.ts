/** The pid file: opened, locked, written, held open for life, removed at the end. */

import { closeSync, fstatSync, ftruncateSync, openSync, readSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import type { ByteString } from '../../../xdr/codec.ts';
import { toPath } from '../../posix/bytes.ts';
import { EXIT, StartupError } from '../../libvirt/exit.ts';

export interface PidFileHost {
  readonly pid: number;
  /** Takes a write lock on `length` bytes from `start` without waiting: 0 or a negative errno. */
  lock(fd: number, start: number, length: number): number;
  strerror(errno: number): string;
}

/** A pid file that is ours. */
export class PidFile {
  /** Open and locked; over a re-execution it may be handed on, so that the file is never up for grabs. */
  readonly fd: number;
  private readonly path: ByteString;

  private constructor(path: ByteString, fd: number) {
    this.path = path;
    this.fd = fd;
  }

  /**
   * Takes the pid file. An empty path means none, as in C.
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
      // Its last holder may have removed it between our opening and our locking: then what we locked is nobody's.
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

  /** Goes on with the descriptor of a predecessor, or acquires the file when that descriptor is not it any more. */
  static adopt(path: ByteString, fd: number, host: PidFileHost): PidFile | null {
    if (path === '') return null;
    if (isNamed(fd, path) === false) {
      const acquired = PidFile.acquire(path, host);
      if (acquired === null || !isSameFile(acquired.fd, fd)) return acquired;
      // It has come back meanwhile. One of the two must be closed, which drops the lock: it is taken once more.
      closeSync(acquired.fd);
    }
    // It is locked since before the restart, or is again now: an error of the file system tells nothing else.
    host.lock(fd, 0, 1);
    return new PidFile(path, fd);
  }

  /** Removes the file, if it is still ours, and with it the lock. */
  remove(): void {
    try {
      if (isNamed(this.fd, this.path) === true) unlinkSync(toPath(this.path));
    } catch {
      // Its directory may be gone, or not ours any more.
    }
    closeSync(this.fd);
  }
}

/** Whether what is open is a pid file, named or not, that a process with this pid wrote. */
export function isPidFileOf(fd: number, pid: number): boolean {
  try {
    const text = Buffer.alloc(32);
    return text.toString('latin1', 0, readSync(fd, text, 0, text.length, 0)) === String(pid);
  } catch {
    return false;
  }
}

/** Whether the path still names what is open; undefined when that cannot be found out. */
function isNamed(fd: number, path: ByteString): boolean | undefined {
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

/** Runs a step and words its failure. */
function attempt<Result>(host: PidFileHost, what: string, step: () => Result): Result {
  try {
    return step();
  } catch (error) {
    const errno = Math.abs((error as NodeJS.ErrnoException).errno ?? constants.errno.EIO);
    throw new StartupError(EXIT.pidFile, `${what}: ${host.strerror(errno)}`);
  }
}
