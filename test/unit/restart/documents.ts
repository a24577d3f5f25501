/** State documents for the tests: one of everything, and arbitrary ones. */
import fc from 'fast-check';
import { own } from '../../../src/daemon/state.ts';
import { resource } from '../../../src/lockspace/state.ts';
import { adminClient, lockClient, type ServerState, type StateDocument } from '../../../src/restart/document.ts';
import { server } from '../../../src/rpc/state.ts';
import type { Kind } from '../../../src/state/state.ts';
import { anyOf, bytes } from '../state/arbitrary.ts';

function anyServer<C extends { readonly id: number; readonly auth_pending: boolean }>(
  client: Kind<C>,
): fc.Arbitrary<ServerState<C>> {
  const one = anyOf(client).map((state) => ({ ...state, auth_pending: false }));
  const clients = fc.uniqueArray(one, { maxLength: 4, selector: ({ id }) => id });
  return fc.tuple(anyOf(server), clients).map(([state, clients]) => ({
    ...state,
    max_anonymous_clients: Math.min(state.max_clients, state.max_anonymous_clients),
    clients,
  }));
}

const resources = fc.array(anyOf(resource), { maxLength: 3 });

export const anyDocument: fc.Arbitrary<StateDocument> = fc.record(
  {
    magic: fc.nat().map(String),
    lockServer: anyServer(lockClient),
    adminServer: fc.option(anyServer(adminClient)),
    lockspaces: fc
      .tuple(
        resources,
        fc.array(fc.record({ directory: bytes, resources }, { noNullPrototype: true }), { maxLength: 3 }),
      )
      .map(([first, others]) => [{ directory: '', resources: first }, ...others]),
    own: fc.option(anyOf(own)),
  },
  { noNullPrototype: true },
);

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
