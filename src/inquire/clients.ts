/** Connections as the inquire program tells them. */
import type { ClientInfo } from '../../xdr/programs/inquire.ts';
import { LockClient } from '../lockd/client.ts';
import type { Connection } from '../rpc/connection.ts';
import type { InquireHost } from './host.ts';
import { describeOwner } from './owners.ts';
import type { Step } from './pages.ts';

/** About how many bytes an entry takes beside its owner's name. */
const CLIENT_SIZE = 150;

export function* describeClients({ servers, lockspaces }: InquireHost): Generator<Step<ClientInfo>> {
  for (const server of servers) {
    for (const { connection, context } of server.clients.values()) {
      const client = context instanceof LockClient ? context : null;
      const owner = client?.owner ?? null;
      const entry: ClientInfo = {
        ...describeConnection(server.name, connection),
        restricted: client?.restricted ?? false,
        owner: owner === null ? null : describeOwner(owner),
        isOwner: client?.isOwnerItself ?? false,
        locks: owner === null ? 0 : lockspaces.heldBy(owner.pid).size,
      };
      yield { entry, size: CLIENT_SIZE + (owner?.name.length ?? 0) };
    }
  }
}

function describeConnection(
  server: string,
  { id, peer, connectedAt, backlog, subscribed }: Connection,
): Omit<ClientInfo, 'restricted' | 'owner' | 'isOwner' | 'locks'> {
  return {
    server,
    id,
    pid: peer.pid >>> 0,
    uid: peer.uid >>> 0,
    gid: peer.gid >>> 0,
    connectedAt,
    subscribed,
    received: backlog.received.length,
    unsent: backlog.unsent.length,
  };
}
