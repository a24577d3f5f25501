import { CallTimeout, ConnectionLost, ProtocolError, RemoteFailure } from '../client/errors.ts';

/** The swap is not possible, or not now. Nothing was changed. */
export class Unsafe extends Error {}
/** The daemon goes on in its former program. */
export class Refused extends Error {}
/** The daemon has ended. */
export class Lost extends Error {}

/** Whether an error came from a call to the daemon. */
export function isCallError(error: unknown): error is Error {
  return [RemoteFailure, ConnectionLost, CallTimeout, ProtocolError].some((kind) => error instanceof kind);
}
