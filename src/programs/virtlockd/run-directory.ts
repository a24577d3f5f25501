/** Makes the directory of the sockets. */

import { mkdirSync } from 'node:fs';
import { constants } from 'node:os';
import type { ByteString } from '../../../xdr/codec.ts';
import { toPath } from '../../posix/bytes.ts';
import { strerror } from '../../posix/posix.ts';
import { EXIT, StartupError } from '../../libvirt/exit.ts';
import { logger } from '../../log/log.ts';

const log = logger('locking.lock_daemon');

const { EEXIST, ENOTDIR, EIO } = constants.errno;

/**
 * Makes the run directory and its parents, with exactly this mode whatever the umask.
 *
 * @throws StartupError (exit 2; in a session 1, where C calls it a failure to find the pid file's path)
 */
export function makeRunDirectory(directory: ByteString, mode: number, privileged: boolean): void {
  const umask = process.umask(0o777 & ~mode);
  try {
    mkdirSync(toPath(directory), { recursive: true, mode });
  } catch (error) {
    const errno = Math.abs((error as NodeJS.ErrnoException).errno ?? EIO);
    // For a file in the way Node.js reports EEXIST, and C ENOTDIR.
    const reason = strerror(errno === EEXIST ? ENOTDIR : errno);
    if (privileged) throw new StartupError(EXIT.runDirectory, `unable to create rundir ${directory}: ${reason}`);
    log.error(`Cannot create user runtime directory '${directory}': ${reason}`);
    throw new StartupError(EXIT.pidFile, "Can't determine pid file path.");
  } finally {
    process.umask(umask);
  }
}
