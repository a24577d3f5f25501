/** The client's side of a UNIX socket, blocking with a limit: the fuzzer is synchronous. */
import type { ByteString } from '../../../xdr/codec.ts';
import { requireFromRoot } from '../../posix/root.ts';

interface Client {
  /** A connection to the socket at `path` (at most 107 bytes), or -errno. */
  connect(path: ByteString): number;
  /** Two connected sockets into `out`; 0 or -errno. */
  pair(out: Int32Array): number;
  /**
   * Sends all bytes, `descriptors` attached to the first of them, waiting at most `limit` ms each time that there is no
   * room. Returns the bytes sent, or -errno.
   */
  send(fd: number, bytes: Buffer, descriptors: readonly number[], limit: number): number;
  /** Receives into `into` from `offset` on: bytes, 0 at the end, -EAGAIN when nothing comes within `limit` ms, -errno. */
  receive(fd: number, into: Buffer, offset: number, limit: number): number;
  /** Ends the sending side. */
  finish(fd: number): number;
  close(fd: number): number;
}

export const client: Client = requireFromRoot('./dist/client.node') as Client;
