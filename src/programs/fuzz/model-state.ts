/** What the parts of the model share: servers, connections, refusals. */
import type { Stream } from './model-wire.ts';
import type { ServerName } from './steps.ts';

/** Changes: what a subscriber of the inquire program has to be told of, or was told. */
export interface Changes {
  acquired: number;
  released: number;
}

/** A connection of the run's. */
export interface Connection {
  readonly server: ServerState;
  /** The id that the daemon has for it. */
  readonly client: number;
  readonly peer: number;
  readonly stream: Stream;
  owner: { readonly pid: number } | null;
  restricted: boolean;
  /** A call of it was decoded: the admin program tells who it is only then. */
  identified: boolean;
  /** What has happened since it subscribed, and what events have told it of that. */
  subscription: Changes | null;
  told: Changes;
}

/** A server of the daemon. */
export interface ServerState {
  readonly name: ServerName;
  maxClients: number;
  maxAnonymousClients: number;
  priorityWorkers: number;
  /** By the daemon's ids: the run's connections by their numbers, null for one that stands since before the run. */
  readonly clients: Map<number, number | null>;
  /** Clients that are gone, which a real daemon may not have noticed yet. */
  readonly leaving: Set<number>;
}

/** A refusal: code, domain and the detail behind the code's prefix. */
export class Refusal extends Error {
  readonly code: number;
  readonly domain: number;
  /** Only the beginning of the detail is known. */
  readonly open: boolean;

  constructor(code: number, domain: number, detail: string, open = false) {
    super(detail);
    this.code = code;
    this.domain = domain;
    this.open = open;
  }
}

/** The model's knowledge ended. */
export class Unknown extends Error {}

export const RPC = 7;
export const LOCKSPACE = 51;
export const ADMIN = 62;

/** @throws Refusal for flags that are not allowed */
export function checkFlags(flags: number, allowed: number, domain: number): void {
  const bad = (flags & ~allowed) >>> 0;
  if (bad !== 0) throw new Refusal(8, domain, `unsupported flags (0x${bad.toString(16)}) in function `, true);
}
