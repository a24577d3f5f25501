/** The state of servers and connections, in the keys of the C daemon and our own, which begin with `x-`. */
import {
  base64,
  boolean,
  defaulted,
  i32,
  list,
  maybeDescriptor,
  object,
  type ObjectOf,
  optional,
  sparse,
  startTime,
  type StateOf,
  u32,
  u32OrMinusOne,
  type Whole,
  whole,
} from '../state/state.ts';
import type { Connection } from './connection.ts';
import type { Server } from './server.ts';

const socket = object({
  fd: maybeDescriptor,
  errfd: i32,
  pid: i32,
  isClient: boolean,
  unlinkUNIX: defaulted(boolean, ({ isClient }) => isClient !== true),
});

function socketState(fd: number, isClient: boolean, unlinkUNIX: boolean): Whole<StateOf<typeof socket>> {
  return { fd, errfd: -1, pid: 0, isClient, unlinkUNIX };
}

/** A client's keys before those of its programs. */
export const connectionFields = {
  id: whole,
  auth: i32,
  auth_pending: defaulted(boolean, () => false),
  readonly: boolean,
  nrequests_max: u32,
  sock: socket,
  /** Bytes received and not served. */
  'x-received': optional(base64),
  /** How many further bytes of that message are to be dropped. */
  'x-skip': optional(u32),
  /** Replies that the client has not taken. */
  'x-unsent': optional(base64),
  /** To be disconnected once it has taken those. */
  'x-closing': optional(boolean),
  /** The place of its waiting call among those of all connections, by their arrival. */
  'x-waiting': optional(whole),
};

/** A client's keys behind those of its programs. */
export const peerFields = {
  /** As in `Peer`. */
  'x-start': optional(startTime),
  /** Seconds since 1970; 0 when unknown. */
  conn_time: sparse(whole, 0),
};

export type ConnectionState = ObjectOf<typeof connectionFields & typeof peerFields>;

export function complainOfConnection({ auth, auth_pending }: ConnectionState): string | undefined {
  return auth_pending && auth === 0 ? 'auth_pending although there is no authentication' : undefined;
}

export function connectionState({ id, fd, connectedAt, peer, pending, arrival }: Connection): Whole<ConnectionState> {
  const { received, skip, unsent, closing } = pending;
  const hasPending = received.length + unsent.length > 0;
  return {
    id,
    auth: 0,
    auth_pending: false,
    readonly: false,
    nrequests_max: 1,
    sock: socketState(fd, true, false),
    'x-received': hasPending ? received.toString('base64') : undefined,
    'x-skip': hasPending ? skip : undefined,
    'x-unsent': hasPending ? unsent.toString('base64') : undefined,
    'x-closing': hasPending && closing === true ? true : undefined,
    'x-waiting': arrival > 0 ? arrival : undefined,
    'x-start': peer.startTime,
    conn_time: connectedAt,
  };
}

const service = object({ auth: i32, readonly: boolean, nrequests_client_max: u32, socks: list(socket) });

/** A server without its clients, which may be very many. */
export const server = object(
  {
    min_workers: u32,
    max_workers: u32,
    priority_workers: u32,
    max_clients: u32,
    max_anonymous_clients: defaulted(u32, ({ max_clients }) => u32.read(max_clients)),
    keepaliveInterval: u32OrMinusOne,
    keepaliveCount: u32,
    next_client_id: defaulted(whole, () => 1),
    services: list(service),
  },
  ({ max_clients: most, max_anonymous_clients: anonymous }) =>
    most < anonymous ? `max_clients ${most} is below max_anonymous_clients ${anonymous}` : undefined,
);
export type ServerHead = StateOf<typeof server>;

/** A server without a client so far, as C writes it but for the limit. */
export const EMPTY_HEAD: ServerHead = {
  min_workers: 0,
  max_workers: 0,
  priority_workers: 0,
  max_clients: 1024,
  max_anonymous_clients: 1024,
  keepaliveInterval: 0xffffffff,
  keepaliveCount: 0,
  next_client_id: 1,
  services: [],
};

export function serverState(
  server: Pick<
    Server<unknown>,
    'priorityWorkers' | 'maxClients' | 'maxAnonymousClients' | 'nextClientId' | 'listeners'
  >,
): ServerHead {
  return {
    ...EMPTY_HEAD,
    priority_workers: server.priorityWorkers,
    max_clients: server.maxClients,
    max_anonymous_clients: server.maxAnonymousClients,
    next_client_id: server.nextClientId,
    services: server.listeners.map(({ fd, unlink }) => ({
      auth: 0,
      readonly: false,
      nrequests_client_max: 1,
      socks: [socketState(fd, false, unlink)],
    })),
  };
}
