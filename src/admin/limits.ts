/** The procedures about the limits of a server. */
import { ErrorDomain } from '../../xdr/error.ts';
import type { Handlers } from '../../xdr/program.ts';
import { adminProcedures } from '../../xdr/programs/admin.ts';
import type { AdminContext } from './host.ts';
import { byAdmin, checkLateFlags, findServer } from './lookup.ts';
import { checkFieldLengths, invalid, readUnsigned, uint } from './parameters.ts';

const { getClientLimits, setClientLimits } = adminProcedures;

export const limitHandlers: Pick<
  Handlers<typeof adminProcedures, AdminContext>,
  'getClientLimits' | 'setClientLimits'
> = {
  getClientLimits({ host }, { server: { name }, flags }) {
    const { maxClients, maxAnonymousClients, clientCount } = findServer(host, name);
    checkLateFlags(getClientLimits, flags);
    return {
      params: [
        uint('nclients_max', maxClients),
        uint('nclients', clientCount),
        uint('nclients_unauth_max', maxAnonymousClients),
        uint('nclients_unauth', 0),
      ],
    };
  },

  setClientLimits({ host }, { server: { name }, params, flags }) {
    const server = findServer(host, name, byAdmin);
    checkFieldLengths(params);
    checkLateFlags(setClientLimits, flags);
    const wanted = readUnsigned(params, ['nclients_max', 'nclients_unauth_max'], host.dialect);
    const maxClients = wanted.nclients_max ?? server.maxClients;
    const maxAnonymousClients = wanted.nclients_unauth_max ?? server.maxAnonymousClients;
    if (maxClients < maxAnonymousClients) throw invalid(host.dialect.contradictingLimits, ErrorDomain.RPC);
    server.setLimits({ maxClients, maxAnonymousClients });
    return undefined;
  },
};
