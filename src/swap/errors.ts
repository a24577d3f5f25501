/** How a swap fails. */
import { CallTimeout, ConnectionLost, ProtocolError, RemoteFailure } from '../client/errors.ts';

/** This is not the moment, or this daemon cannot be exchanged: nothing was changed. */
export class Unsafe extends Error {}
/** The daemon goes on with the program that it had. */
export class Refused extends Error {}
/** The daemon ended. */
export class Lost extends Error {}

/** Whether an error came from a call to the daemon. */
export function isCallError(error: unknown): error is Error {
  return [RemoteFailure, ConnectionLost, CallTimeout, ProtocolError].some((kind) => error instanceof kind);
}
