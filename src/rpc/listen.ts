/** Makes the daemon's listening sockets. */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { posix, strerror } from '../posix/posix.ts';
import type { Listener } from './server.ts';

const { EADDRINUSE, EAGAIN, ECONNREFUSED, ENOENT } = constants.errno;

/** As many connections as a host's guests may make at once. */
export const BACKLOG = 4096;

export class SocketError extends Error {}

/**
 * Listens at `path`, mode 0700, and replaces a dead socket there. A live one is another daemon's. The C daemon replaces that too, if
 * only the pid files differ, and then two daemons grant one lock.
 *
 * @throws SocketError
 */
export function listenAt(path: ByteString): Listener {
  const umask = process.umask(0o077);
  try {
    let fd = posix.listenUnix(path, BACKLOG);
    if (fd === -EADDRINUSE) {
      const probe = posix.probeUnix(path);
      if (probe === 0 || probe === -EAGAIN) {
        throw new SocketError(`another daemon listens at '${path}': stop it first, or choose other paths`);
      }
      if (probe === -ECONNREFUSED || probe === -ENOENT) {
        posix.unlink(path);
        fd = posix.listenUnix(path, BACKLOG);
      }
    }
    if (fd < 0) throw new SocketError(`Failed to bind socket to '${path}': ${strerror(fd)}`);
    return { fd, path, unlink: true };
  } finally {
    process.umask(umask);
  }
}
