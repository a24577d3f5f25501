/** An exchange: a named script for connections, files and actors, which can be played to any lock daemon. */
import { type Call, encode, keepaliveProgram } from '../../../lab/wire.ts';

export { adminCall as admin } from '../../../lab/admin-calls.ts';

/**
 * A connection is named by letters: `a` leads to the lock socket; names that begin with `admin` lead to the admin socket.
 * A name with a dot belongs to the process before the dot: `p.a` is opened by the actor `p`. A connection is opened when
 * it is first mentioned.
 */
type ConnectionName = string;

/** Bytes, or a function that makes them from the actors' pids. */
export type Sent = Uint8Array | ((pid: (actor: string) => number) => Uint8Array);

export type Step =
  | { do: 'open'; on: ConnectionName }
  /**
   * `apart`: every byte is a write of its own. `descriptors`: this many go with the first byte (an actor's connection only).
   * `awaited`: waits for this many replies, or the end; else only for replies that come at once. `queued`: the next step
   * follows at once.
   */
  | {
      do: 'send';
      on: ConnectionName;
      bytes: Sent;
      apart?: boolean;
      descriptors?: number;
      awaited?: number;
      queued?: boolean;
    }
  | { do: 'half-close'; on: ConnectionName }
  | { do: 'close'; on: ConnectionName }
  /** Waits until the daemon has closed the connection, which takes some versions a while. */
  | { do: 'gone'; on: ConnectionName }
  /** Changes files of the exchange; see files.ts for the orders. */
  | { do: 'files'; orders: readonly string[] }
  /** Writes the files and locks into the transcript, as the end of every exchange does. */
  | { do: 'look' }
  | { do: 'lock'; actor: string; path: string; exclusive: boolean; start: number; length: number }
  | { do: 'unlock'; actor: string; path: string }
  | { do: 'ignore-term'; actor: string }
  | { do: 'kill'; actor: string; signal: NodeJS.Signals }
  /** Waits for the end of the process, which the transcript has. */
  | { do: 'ended'; actor: string }
  /** The number of open descriptors of the daemon, compared with the last such step. */
  | { do: 'descriptors' };

export interface Exchange {
  /** Unique; also the key in the fixtures. */
  readonly name: string;
  /** One sentence: the promise of the interface. */
  readonly promise: string;
  /** @param dir an empty directory of the exchange's own, mode 0755 */
  readonly steps: (dir: string) => readonly Step[];
  /** Needs a new daemon. */
  readonly fresh?: boolean;
  /** The C daemon cannot be used again afterwards. */
  readonly spoils?: boolean;
  /** A defect of C that this project's daemon does not have: fixtures/exchanges/right.json has the right transcript. */
  readonly defect?: string;
  /** The defect is an access to freed memory: C may crash instead of what was recorded. */
  readonly mayCrash?: boolean;
}

/** An exchange with a daemon that earlier exchanges may have used. */
export function exchange(name: string, promise: string, steps: Exchange['steps']): Exchange {
  return { name, promise, steps };
}

/** An exchange with a daemon of its own. */
export function fresh(name: string, promise: string, steps: Exchange['steps']): Exchange {
  return { name, promise, steps, fresh: true };
}

export const open = (on: ConnectionName): Step => ({ do: 'open', on });
export const send = (on: ConnectionName, bytes: Sent, more: Partial<Step & { do: 'send' }> = {}): Step => ({
  do: 'send',
  on,
  bytes,
  ...more,
});
/** Sends one whole call; `with_` changes its header. */
export const call = (on: ConnectionName, request: Call, with_: Partial<Call> = {}): Step =>
  send(on, encode({ ...request, ...with_ }));
/** Several calls in one write, with the serials 1, 2, … */
export const together = (on: ConnectionName, ...requests: readonly Call[]): Step =>
  send(on, Buffer.concat(requests.map((request, index) => encode({ ...request, serial: index + 1 }))));
export const halfClose = (on: ConnectionName): Step => ({ do: 'half-close', on });
export const close = (on: ConnectionName): Step => ({ do: 'close', on });
export const gone = (on: ConnectionName): Step => ({ do: 'gone', on });
export const files = (...orders: readonly string[]): Step => ({ do: 'files', orders });
export const look: Step = { do: 'look' };
export const descriptors: Step = { do: 'descriptors' };
export const ended = (actor: string): Step => ({ do: 'ended', actor });
export const ignoreTerm = (actor: string): Step => ({ do: 'ignore-term', actor });
export const kill = (actor: string, signal: NodeJS.Signals): Step => ({ do: 'kill', actor, signal });
export const foreignLock = (actor: string, path: string, exclusive: boolean, start = 0, length = 1): Step => ({
  do: 'lock',
  actor,
  path,
  exclusive,
  start,
  length,
});
export const foreignUnlock = (actor: string, path: string): Step => ({ do: 'unlock', actor, path });

/** A keepalive message, by default an event. */
export const keepalive = (procedure: number, payload: Uint8Array = Buffer.alloc(0)): Call => ({
  program: keepaliveProgram,
  procedure,
  type: 2,
  payload: Buffer.from(payload),
});
