/** What can go wrong with a call, as types that a caller can tell apart. */
import type { ByteString } from '../../xdr/codec.ts';
import type { RemoteError } from '../../xdr/error.ts';

/** The daemon answered with an error. `code` and `domain` are libvirt's (see ErrorCode, ErrorDomain); `message` is bytes. */
export class RemoteFailure extends Error {
  override name = 'RemoteFailure';
  readonly code: number;
  readonly domain: number;
  /** Everything that the reply carried. */
  readonly remote: RemoteError;

  constructor(remote: RemoteError) {
    super((remote.message ?? 'an error without a message') satisfies ByteString);
    this.code = remote.code;
    this.domain = remote.domain;
    this.remote = remote;
  }
}

/** The connection is closed, or could not be made; `cause` is the system's error where there was one. */
export class ConnectionLost extends Error {
  override name = 'ConnectionLost';
  /** The errno's name, such as ENOENT, ECONNREFUSED or EACCES; absent when the peer simply closed. */
  readonly code: string | undefined;

  constructor(message: string, cause?: NodeJS.ErrnoException) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = cause?.code;
  }
}

/** No answer in time. The connection goes on, and a late answer is dropped. */
export class CallTimeout extends Error {
  override name = 'CallTimeout';
}

/** The peer does not speak the protocol. */
export class ProtocolError extends Error {
  override name = 'ProtocolError';
}
