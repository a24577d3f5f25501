/** What can go wrong with a call, as types that a caller can tell apart. */
import { ErrorCode } from '../../xdr/error.ts';

/** An error as a reply carries it. Texts are bytes, one a character (latin1). */
export interface RemoteDetails {
  /** See {@link ErrorCode}. */
  readonly code: number;
  /** See {@link ErrorDomain}. */
  readonly domain: number;
  readonly message: string | null;
  /** 2: an error. */
  readonly level: number;
  /** The pattern of the message, and its parts. */
  readonly str1: string | null;
  readonly str2: string | null;
  readonly str3: string | null;
  /** Of a system error: the errno. Else -1 or 0. */
  readonly int1: number;
  readonly int2: number;
}

/**
 * The daemon answered with an error. `code` and `domain` are libvirt's (see {@link ErrorCode} and {@link ErrorDomain});
 * the message is libvirt's, read as UTF-8.
 */
export class RemoteFailure extends Error {
  override name = 'RemoteFailure';
  /** Which kind of error: see {@link ErrorCode}. */
  readonly code: number;
  /** Where it comes from: see {@link ErrorDomain}. */
  readonly domain: number;
  /** The errno behind a system error, as a positive number; otherwise absent. */
  readonly errno: number | undefined;
  /** Everything that the reply carried, as bytes. */
  readonly remote: RemoteDetails;

  constructor(remote: RemoteDetails) {
    super(Buffer.from(remote.message ?? 'an error without a message', 'latin1').toString());
    this.code = remote.code;
    this.domain = remote.domain;
    this.errno = remote.code === ErrorCode.SYSTEM_ERROR && remote.int1 > 0 ? remote.int1 : undefined;
    this.remote = remote;
  }

  /** Somebody else holds the resource, or holds it in a way that does not go with what was asked for. */
  get isBusy(): boolean {
    return this.code === ErrorCode.RESOURCE_BUSY;
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
