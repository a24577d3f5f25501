/** The error that an unsuccessful reply carries (libvirt's remote_error), and the numbers in it. */
import { i32, optional, string, struct, type ValueOf, type Xdr } from './schema.ts';
import { XdrError } from './codec.ts';

/** The most bytes in a string of an error. */
const REMOTE_STRING_MAX = 4194304;

/** Error codes (virErrorNumber) that this daemon replies with. */
export const ErrorCode = {
  INTERNAL_ERROR: 1,
  INVALID_ARG: 8,
  OPERATION_DENIED: 29,
  SYSTEM_ERROR: 38,
  RPC: 39,
  OPERATION_INVALID: 55,
  ARGUMENT_UNSUPPORTED: 74,
  RESOURCE_BUSY: 87,
  NO_SERVER: 95,
  NO_CLIENT: 96,
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

/** Where an error comes from (virErrorDomain). */
export const ErrorDomain = { NONE: 0, RPC: 7, LOCKSPACE: 51, ADMIN: 62 } as const;
export type ErrorDomain = (typeof ErrorDomain)[keyof typeof ErrorDomain];

/** The level of every error a daemon replies with (VIR_ERR_ERROR). */
export const ERROR_LEVEL = 2;

/** A libvirt object that an error refers to. The lock daemon never sends one, and the reader refuses it. */
const absent: Xdr<null> = {
  shape: { kind: 'optional', of: { kind: 'void' } },
  minSize: 4,
  read: (reader) => {
    if (reader.u32() !== 0) throw new XdrError('an error that refers to an object');
    return null;
  },
  write: (writer) => writer.u32(0),
};

const text = optional(string(REMOTE_STRING_MAX));

export const remoteError = struct('remote_error', {
  code: i32,
  domain: i32,
  message: text,
  level: i32,
  dom: absent,
  str1: text,
  str2: text,
  str3: text,
  int1: i32,
  int2: i32,
  net: absent,
});
export type RemoteError = ValueOf<typeof remoteError>;
