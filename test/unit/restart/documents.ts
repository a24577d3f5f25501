/** State documents for the tests: one of everything, and arbitrary ones. */
import fc from 'fast-check';
import type {
  ClientState,
  HoldState,
  OwnerState,
  ResourceState,
  ServerState,
  SocketState,
  StateDocument,
} from '../../../src/restart/document.ts';

/** Any byte but NUL, which no name can hold. */
export const bytes = fc.string({ unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)) });
const u32 = fc.oneof(fc.nat({ max: 20 }), fc.integer({ min: 0, max: 0xffffffff }));
const fd = fc.nat({ max: 0x7fffffff });
const whole = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const uuid = fc.uuid();
const exact = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(model, { noNullPrototype: true });

const socket = (isClient: boolean): fc.Arbitrary<SocketState> =>
  exact<SocketState>({
    fd,
    errfd: fc.constant(-1),
    pid: fc.constant(0),
    isClient: fc.constant(isClient),
    unlinkUNIX: fc.boolean(),
  });

const owner = exact<OwnerState>({
  restricted: fc.boolean(),
  ownerPid: u32,
  ownerId: u32,
  ownerName: bytes,
  ownerUUID: uuid,
});

const base64 = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value).toString('base64'));

function client(isAdmin: boolean): fc.Arbitrary<ClientState> {
  const plain = exact<ClientState>({
    id: whole,
    auth: fc.constant(0),
    auth_pending: fc.constant(false),
    readonly: fc.boolean(),
    nrequests_max: u32,
    conn_time: whole,
    sock: socket(true),
    privateData: isAdmin ? fc.constant(null) : owner,
  });
  const backlog = exact({ 'x-received': base64, 'x-skip': u32, 'x-unsent': base64, 'x-closing': fc.boolean() });
  const subscription = exact({ 'x-subscribed': fc.boolean(), 'x-missed': whole });
  const parts = fc.tuple(plain, fc.option(backlog), fc.option(subscription));
  return parts.map(([one, more, events]) => ({ ...one, ...(more ?? {}), ...(events ?? {}) }));
}

function server(isAdmin: boolean): fc.Arbitrary<ServerState> {
  return exact<ServerState>({
    min_workers: u32,
    max_workers: u32,
    priority_workers: u32,
    max_clients: u32,
    max_anonymous_clients: u32,
    keepaliveInterval: u32,
    keepaliveCount: u32,
    next_client_id: whole,
    services: fc.array(
      exact({
        auth: fc.constant(0),
        readonly: fc.boolean(),
        nrequests_client_max: u32,
        socks: fc.array(socket(false)),
      }),
      { maxLength: 2 },
    ),
    clients: fc.uniqueArray(client(isAdmin), { maxLength: 4, selector: ({ id }) => id }),
  }).map((state) => ({ ...state, max_anonymous_clients: Math.min(state.max_clients, state.max_anonymous_clients) }));
}

const hold = exact<HoldState>({ id: u32, name: bytes, uuid, since: whole, client: whole });
const resource: fc.Arbitrary<ResourceState> = exact<ResourceState & { 'x-holds': HoldState[] }>({
  name: bytes,
  path: bytes,
  fd,
  lockHeld: fc.boolean(),
  flags: u32,
  owners: fc.array(u32, { maxLength: 3 }),
  'x-holds': fc.array(hold, { maxLength: 3 }),
  'x-inode': fc.constantFrom('1::2', '2049:7:12'),
});
const resources = fc.array(resource, { maxLength: 3 });

export const anyDocument: fc.Arbitrary<StateDocument> = exact<StateDocument>({
  magic: fc.nat().map(String),
  lockServer: server(false),
  adminServer: fc.option(server(true)),
  lockspaces: fc
    .tuple(resources, fc.array(exact({ directory: bytes, resources }), { maxLength: 3 }))
    .map(([first, others]) => [{ directory: '', resources: first }, ...others]),
  own: fc.option(
    exact({
      restarts: whole,
      started: whole,
      process: exact({ start: whole, boot: fc.constantFrom('', '3f1f4a3c-0000-4000-8000-000000000000') }),
      pidFile: fd,
      timeout: u32,
      log: exact({ level: fc.constantFrom(1, 2, 3, 4), filters: bytes, outputs: bytes }),
      inquiry: exact({
        counters: fc.dictionary(fc.constantFrom('acquired', 'refusedHeld', 'later'), whole, { noNullPrototype: true }),
        refused: whole,
        refusals: fc.base64String(),
      }),
    }),
  ),
});

/** A document as a C daemon of the newest form writes it, as plain JSON, to be changed by a test. */
export function plainDocument(): Record<string, unknown> {
  const sock = (descriptor: number, isClient: boolean): unknown => ({
    fd: descriptor,
    errfd: -1,
    pid: 0,
    isClient,
    unlinkUNIX: !isClient,
  });
  const serverOf = (descriptor: number, privateData: unknown): unknown => ({
    min_workers: 0,
    max_workers: 0,
    priority_workers: 0,
    max_clients: 1024,
    max_anonymous_clients: 1000,
    keepaliveInterval: 4294967295,
    keepaliveCount: 0,
    next_client_id: 8,
    services: [{ auth: 0, readonly: false, nrequests_client_max: 1, socks: [sock(descriptor, false)] }],
    clients: [
      {
        id: 7,
        auth: 0,
        auth_pending: false,
        readonly: false,
        nrequests_max: 1,
        conn_time: 1795358400,
        sock: sock(descriptor + 10, true),
        privateData,
      },
    ],
  });
  const registered = {
    restricted: false,
    ownerPid: 4557,
    ownerId: 5,
    ownerName: 'vm1',
    ownerUUID: '00010203-0405-0607-0809-0a0b0c0d0e0f',
  };
  const held = (descriptor: number): unknown => ({
    name: 'a',
    path: '/x/a',
    fd: descriptor,
    lockHeld: true,
    flags: 2,
    owners: [4557],
  });
  return {
    daemon: { servers: { admin: serverOf(4, {}), virtlockd: serverOf(3, registered) } },
    defaultLockspace: { resources: [held(20)] },
    lockspaces: [{ directory: '/x', resources: [held(21)] }],
    magic: '1234',
  };
}
