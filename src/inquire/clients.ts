/** The list of connections. */
import type { ClientInfo } from '../../xdr/programs/inquire.ts';
import type { Connection } from '../rpc/connection.ts';
import type { InquireHost } from './host.ts';
import { describeOwner } from './owners.ts';
import type { Step } from './pages.ts';

/** Approximate bytes of an entry without its owner's name. */
const CLIENT_SIZE = 150;

export function* describeClients({ servers, lockspaces }: InquireHost): Generator<Step<ClientInfo>> {
  const [lockServer, adminServer] = servers;
  for (const connection of lockServer.adoptAll().values()) {
    const { owner, restricted, isOwnerItself } = connection.context;
    const entry: ClientInfo = {
      ...describeConnection(lockServer.name, connection),
      restricted,
      owner: owner === null ? null : describeOwner(owner),
      isOwner: isOwnerItself,
      locks: owner === null ? 0 : lockspaces.heldBy(owner.pid).size,
    };
    yield { entry, size: CLIENT_SIZE + (owner?.name.length ?? 0) };
  }
  for (const connection of adminServer.adoptAll().values()) {
    const { subscribed } = connection.context;
    yield { entry: { ...describeConnection(adminServer.name, connection), subscribed }, size: CLIENT_SIZE };
  }
}

/** The fields that every connection has; the others are empty. */
function describeConnection(server: string, { id, peer, connectedAt, pending }: Connection): ClientInfo {
  return {
    server,
    id,
    pid: peer.pid >>> 0,
    uid: peer.uid >>> 0,
    gid: peer.gid >>> 0,
    connectedAt,
    subscribed: false,
    received: pending.received.length,
    unsent: pending.unsent.length,
    restricted: false,
    owner: null,
    isOwner: false,
    locks: 0,
  };
}
