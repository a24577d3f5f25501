/** Errors as replies carry them, in libvirt's forms. */
import type { ByteString } from '../../xdr/codec.ts';
import { ERROR_LEVEL, ErrorCode, ErrorDomain, type RemoteError } from '../../xdr/error.ts';
import type { FlagRule } from '../../xdr/program.ts';
import { strerror } from '../posix/posix.ts';
import type { Dialect } from './dialect.ts';

/** The text before the detail of an error. Other codes have none. */
const PREFIX: Readonly<Partial<Record<ErrorCode, string>>> = {
  [ErrorCode.INTERNAL_ERROR]: 'internal error',
  [ErrorCode.INVALID_ARG]: 'invalid argument',
  [ErrorCode.OPERATION_DENIED]: 'operation forbidden',
  [ErrorCode.OPERATION_INVALID]: 'Requested operation is not valid',
  [ErrorCode.ARGUMENT_UNSUPPORTED]: 'argument unsupported',
  [ErrorCode.RESOURCE_BUSY]: 'resource busy',
  [ErrorCode.NO_SERVER]: 'Server not found',
  [ErrorCode.NO_CLIENT]: 'Client not found',
};

/** A failure of a call, sent as its reply. `detail` is bytes, because it repeats names that the client chose. */
export class RpcError extends Error {
  override name = 'RpcError';
  readonly code: ErrorCode;
  readonly domain: ErrorDomain;
  readonly detail: ByteString;
  /** A positive errno behind a SYSTEM_ERROR, else -1. */
  readonly errno: number;

  constructor(code: ErrorCode, domain: ErrorDomain, detail: ByteString, errno = -1) {
    const prefix = PREFIX[code];
    super(prefix === undefined ? detail : `${prefix}: ${detail}`);
    this.code = code;
    this.domain = domain;
    this.detail = detail;
    this.errno = errno;
  }

  toRemote({ detailFormat, errorBuffer }: Dialect): RemoteError {
    const prefix = PREFIX[this.code];
    let { detail } = this;
    if (this.code === ErrorCode.SYSTEM_ERROR) {
      if (detail.length >= errorBuffer) detail = strerror(this.errno);
    } else detail = detail.slice(0, errorBuffer - 2);
    return {
      ...EMPTY,
      code: this.code,
      domain: this.domain,
      message: prefix === undefined ? detail : `${prefix}: ${detail}`,
      str1: prefix === undefined ? '%s' : `${prefix}: ${detailFormat}`,
      str2: detail,
      int1: this.errno,
      int2: -1,
    };
  }
}

/** Flags that a procedure does not take: a form of its own, which names the C function. */
export class UnsupportedFlagsError extends RpcError {
  readonly reportedAs: string;

  constructor(domain: ErrorDomain, flags: number, reportedAs: string) {
    super(ErrorCode.INVALID_ARG, domain, '');
    this.message = `unsupported flags (0x${flags.toString(16)}) in function ${reportedAs}`;
    this.reportedAs = reportedAs;
  }

  override toRemote(): RemoteError {
    const { code, domain, message, reportedAs } = this;
    return { ...EMPTY, code, domain, message, str1: reportedAs, str2: 'flags', int1: 0, int2: 0 };
  }
}

/** C's reply when a function of its own fails without setting an error. */
export class UndescribedError extends RpcError {
  constructor() {
    super(ErrorCode.INTERNAL_ERROR, ErrorDomain.RPC, '');
    this.message = 'Library function returned error but did not set virError';
  }

  override toRemote(): RemoteError {
    const { code, domain, message } = this;
    return { ...EMPTY, code, domain, message, int1: 0, int2: 0 };
  }
}

const EMPTY: RemoteError = {
  code: 0,
  domain: 0,
  message: null,
  level: ERROR_LEVEL,
  dom: null,
  str1: null,
  str2: null,
  str3: null,
  int1: -1,
  int2: -1,
  net: null,
};

/** Refuses flags that the procedure does not take. */
export function checkFlags(domain: ErrorDomain, { allowed, reportedAs }: FlagRule, flags: number): void {
  const unsupported = (flags & ~allowed) >>> 0;
  if (unsupported !== 0) throw new UnsupportedFlagsError(domain, unsupported, reportedAs);
}

/** Code 38: `detail: <strerror text>`, with the errno (of either sign) in int1. */
export function systemError(domain: ErrorDomain, error: number, detail: ByteString): RpcError {
  const errno = Math.abs(error);
  return new RpcError(ErrorCode.SYSTEM_ERROR, domain, `${detail}: ${strerror(errno)}`, errno);
}

/** Code 39: the call could not be dispatched. */
export function dispatchError(detail: ByteString): RpcError {
  return new RpcError(ErrorCode.RPC, ErrorDomain.RPC, detail);
}
