/** The errors of calls, each a class of its own. */
import { ErrorCode } from '../../xdr/error.ts';

/** The error in a reply. Each character of a text is one byte (latin1). */
export interface RemoteDetails {
  /** See {@link ErrorCode}. */
  readonly code: number;
  /** See {@link ErrorDomain}. */
  readonly domain: number;
  readonly message: string | null;
  /** 2: an error. */
  readonly level: number;
  /** The pattern of the message, and its arguments. */
  readonly str1: string | null;
  readonly str2: string | null;
  readonly str3: string | null;
  /** Of a system error: the errno. Else -1 or 0. */
  readonly int1: number;
  readonly int2: number;
}

/** What all errors of calls have. Their stacks begin where the call was made. */
abstract class CallError extends Error {
  /** The procedure that was called, such as `acquireResource`; absent if the connection failed outside a call. */
  call: string | undefined;
}

/**
 * An error as the caller of a procedure gets it: with the call, and with the caller's frames in place of those of the socket that
 * brought the answer. Anything else, such as the reason of a signal, stays as it is.
 */
export function atCaller(error: unknown, call: string): unknown {
  if (!(error instanceof CallError)) return error;
  // Every call on a lost connection fails with the one error.
  const own = error instanceof ConnectionLost ? error.copy() : error;
  own.call = call;
  Error.captureStackTrace(own, atCaller);
  return own;
}

const CODE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(ErrorCode).map(([name, code]): [number, string] => [code, name]),
);

/** The daemon answered with an error. `code` and `domain` are libvirt's; the message is libvirt's, decoded as UTF-8. */
export class RemoteFailure extends CallError {
  override name = 'RemoteFailure';
  /** See {@link ErrorCode}. */
  readonly code: number;
  /** Its name, such as `RESOURCE_BUSY`; absent for a code that {@link ErrorCode} does not have. */
  readonly codeName: string | undefined;
  /** See {@link ErrorDomain}. */
  readonly domain: number;
  /** The errno of a system error, as a positive number; otherwise absent. */
  readonly errno: number | undefined;
  /** The whole error of the reply. */
  readonly remote: RemoteDetails;

  constructor(remote: RemoteDetails) {
    super(Buffer.from(remote.message ?? 'an error without a message', 'latin1').toString());
    this.code = remote.code;
    this.codeName = CODE_NAMES.get(remote.code);
    this.domain = remote.domain;
    this.errno = remote.code === ErrorCode.SYSTEM_ERROR && remote.int1 > 0 ? remote.int1 : undefined;
    this.remote = remote;
  }

  /** Another owner holds the resource, in a mode that excludes the one asked for. */
  get isBusy(): boolean {
    return this.code === ErrorCode.RESOURCE_BUSY;
  }
}

/** The connection was closed, or could not be made. `cause` is the system's error, if there was one. */
export class ConnectionLost extends CallError {
  override name = 'ConnectionLost';
  /** The errno's name, such as ENOENT, ECONNREFUSED or EACCES; absent if the peer closed the connection. */
  readonly code: string | undefined;

  readonly #cause: NodeJS.ErrnoException | undefined;

  constructor(message: string, cause?: NodeJS.ErrnoException) {
    super(message, cause === undefined ? undefined : { cause });
    this.#cause = cause;
    this.code = cause?.code;
  }

  /** @internal */
  copy(): ConnectionLost {
    return new ConnectionLost(this.message, this.#cause);
  }
}

/** No answer in time. The connection stays open, and a late answer is dropped. */
export class CallTimeout extends CallError {
  override name = 'CallTimeout';
}

/** The peer does not speak the protocol. */
export class ProtocolError extends CallError {
  override name = 'ProtocolError';
}
