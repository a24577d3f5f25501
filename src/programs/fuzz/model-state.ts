/** The state that the parts of the model share: servers, connections, refusals. */
import type { Stream } from './model-wire.ts';
import type { ServerName } from './steps.ts';

/** Numbers of changes that a subscriber of the inquire program must get, or got. */
export interface Changes {
  acquired: number;
  released: number;
}

/** A connection of the run. */
export interface Connection {
  readonly server: ServerState;
  /** Its client id in the daemon. */
  readonly client: number;
  readonly peer: number;
  readonly stream: Stream;
  owner: { readonly pid: number } | null;
  restricted: boolean;
  /** A call of it was decoded: only then does the admin program know its identity. */
  identified: boolean;
  /** The changes since it subscribed, and those in its events. */
  subscription: Changes | null;
  reported: Changes;
}

/** A server of the daemon. */
export interface ServerState {
  readonly name: ServerName;
  maxClients: number;
  maxAnonymousClients: number;
  priorityWorkers: number;
  /** By client id: the number of the run's connection, or null for a connection from before the run. */
  readonly clients: Map<number, number | null>;
  /** Clients whose end a real daemon may not have noticed yet. */
  readonly leaving: Set<number>;
}

/** A refusal: code, domain and the detail behind the code's prefix. */
export class Refusal extends Error {
  readonly code: number;
  readonly domain: number;
  /** The detail is only the beginning of the text. */
  readonly open: boolean;

  constructor(code: number, domain: number, detail: string, open = false) {
    super(detail);
    this.code = code;
    this.domain = domain;
    this.open = open;
  }
}

/** The model does not know the answer. */
export class Unknown extends Error {}

export const RPC = 7;
export const LOCKSPACE = 51;
export const ADMIN = 62;

/** @throws Refusal for flags that are not allowed */
export function checkFlags(flags: number, allowed: number, domain: number): void {
  const bad = (flags & ~allowed) >>> 0;
  if (bad !== 0) throw new Refusal(8, domain, `unsupported flags (0x${bad.toString(16)}) in function `, true);
}
