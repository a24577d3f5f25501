/** The procedures about clients. */
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import type { Handlers } from '../../xdr/program.ts';
import { ADMIN_LIST_MAX, adminProcedures, type ClientRef } from '../../xdr/programs/admin.ts';
import { posix } from '../posix/posix.ts';
import { RpcError } from '../libvirt/errors.ts';
import { groupName, userName } from './accounts.ts';
import type { AdminClient, AdminContext, AdminServer } from './host.ts';
import { byAdmin, checkLateFlags, findClient, findServer } from './lookup.ts';
import { boolean, int, text } from './parameters.ts';

const { listClients, lookupClient, getClientInfo, closeClient } = adminProcedures;

/** VIR_CLIENT_TRANS_UNIX: there is no other transport. */
const TRANSPORT_UNIX = 0;

function refer({ name }: AdminServer, { id, connectedAt }: AdminClient): ClientRef {
  return { server: { name }, id: BigInt(id), timestamp: BigInt(connectedAt), transport: TRANSPORT_UNIX };
}

export const clientHandlers: Pick<
  Handlers<typeof adminProcedures, AdminContext>,
  'listClients' | 'lookupClient' | 'getClientInfo' | 'closeClient'
> = {
  listClients({ host }, { server: { name }, needResults, flags }) {
    const server = findServer(host, name);
    checkLateFlags(listClients, flags);
    if (needResults === 0) return { clients: [], count: server.clientCount };
    if (server.clientCount > ADMIN_LIST_MAX) {
      const detail = `Too many clients '${server.clientCount}' for limit '${ADMIN_LIST_MAX}'`;
      throw new RpcError(ErrorCode.RPC, ErrorDomain.ADMIN, detail);
    }
    const clients = Array.from(server.adoptAll().values(), (client) => refer(server, client));
    return { clients, count: clients.length };
  },

  lookupClient({ host }, { server: { name }, id, flags }) {
    const server = findServer(host, name);
    checkLateFlags(lookupClient, flags);
    return { client: refer(server, findClient(server, id)) };
  },

  // As in C, only the server's name and the client's id count, not its timestamp and transport.
  getClientInfo({ host }, { client: { server, id }, flags }) {
    const client = findClient(findServer(host, server.name, byAdmin), id, byAdmin);
    checkLateFlags(getClientInfo, flags);
    if (!client.isIdentified) {
      const detail = 'No identity information available for client';
      throw new RpcError(ErrorCode.INTERNAL_ERROR, ErrorDomain.RPC, detail);
    }
    const { peer, fd } = client;
    const securityContext = posix.peerSecurity(fd);
    return {
      params: [
        boolean('readonly', false),
        // C reports the ids as signed.
        int('unix_user_id', peer.uid | 0),
        text('unix_user_name', userName(peer.uid)),
        int('unix_group_id', peer.gid | 0),
        text('unix_group_name', groupName(peer.gid)),
        int('unix_process_id', peer.pid),
        ...(securityContext === null ? [] : [text('selinux_context', securityContext)]),
      ],
    };
  },

  closeClient({ host }, { client: { server, id }, flags }) {
    const client = findClient(findServer(host, server.name), id);
    checkLateFlags(closeClient, flags);
    // Before the reply, as in C: a client that closes itself gets none.
    client.close();
    return undefined;
  },
};
