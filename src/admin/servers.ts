/** The procedures about servers, their thread pools and their TLS files, of which there are none. */
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import type { Handlers } from '../../xdr/program.ts';
import { adminProcedures } from '../../xdr/programs/admin.ts';
import { RpcError } from '../libvirt/errors.ts';
import type { AdminContext } from './host.ts';
import { byAdmin, checkLateFlags, findServer } from './lookup.ts';
import { checkFieldLengths, invalid, readUnsigned, uint } from './parameters.ts';

const { getThreadPool, setThreadPool, updateTls } = adminProcedures;

export const serverHandlers: Pick<
  Handlers<typeof adminProcedures, AdminContext>,
  'listServers' | 'lookupServer' | 'getThreadPool' | 'setThreadPool' | 'updateTls'
> = {
  listServers({ host: { servers } }, { needResults }) {
    return { servers: needResults === 0 ? [] : servers.map(({ name }) => ({ name })), count: servers.length };
  },

  lookupServer({ host }, { name }) {
    return { server: { name: findServer(host, name).name } };
  },

  getThreadPool({ host }, { server: { name }, flags }) {
    const { priorityWorkers } = findServer(host, name);
    checkLateFlags(getThreadPool, flags);
    return {
      params: [
        uint('minWorkers', 0),
        uint('maxWorkers', 0),
        uint('nWorkers', 0),
        uint('freeWorkers', 0),
        uint('prioWorkers', priorityWorkers),
        uint('jobQueueDepth', 0),
      ],
    };
  },

  setThreadPool({ host }, { server: { name }, params, flags }) {
    const server = findServer(host, name, byAdmin);
    checkFieldLengths(params);
    checkLateFlags(setThreadPool, flags);
    const { minWorkers, maxWorkers, prioWorkers } = readUnsigned(
      params,
      ['minWorkers', 'maxWorkers', 'prioWorkers'],
      host.dialect,
    );
    if ((minWorkers ?? 0) > (maxWorkers ?? 0)) throw invalid('minWorkers cannot be larger than maxWorkers');
    // A daemon without workers cannot get any.
    if ((maxWorkers ?? 0) > 0) {
      throw invalid('maxWorkers must not be switched from zero to non-zero and vice versa');
    }
    // C starts threads that have nothing to do, and dies if it cannot start that many.
    if (prioWorkers !== undefined) server.priorityWorkers = prioWorkers;
    return undefined;
  },

  updateTls({ host }, { server: { name }, flags }) {
    findServer(host, name);
    checkLateFlags(updateTls, flags);
    const detail = 'no tls service found, unable to update tls files';
    throw new RpcError(ErrorCode.INTERNAL_ERROR, ErrorDomain.RPC, detail);
  },
};
