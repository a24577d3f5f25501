/** Finds servers and clients by name and id, with the error of each procedure for a wrong one. */
import type { ByteString } from '../../xdr/codec.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import type { FlagRule } from '../../xdr/program.ts';
import { checkFlags, RpcError } from '../libvirt/errors.ts';
import type { AdminClient, AdminHost, AdminServer } from './host.ts';

/** Domain and text of the errors: C has two places that look things up. */
interface Finder {
  readonly domain: ErrorDomain;
  server(name: ByteString): string;
  client(id: bigint): string;
}

/** Procedures whose look-ups are made by C's generic server code. */
const byDaemon: Finder = {
  domain: ErrorDomain.RPC,
  server: (name) => `No server named '${name}'`,
  client: (id) => `No client with matching ID '${id.toString()}'`,
};

/** Procedures 7, 10 and 13, whose look-ups are made by hand-written code of C's admin program. */
export const byAdmin: Finder = {
  domain: ErrorDomain.ADMIN,
  server: (name) => `no server with matching name '${name}' found`,
  client: (id) => `no client with matching id '${id.toString()}' found`,
};

/** Throws an {@link RpcError} (code 95) when there is no such server. */
export function findServer(host: AdminHost, name: ByteString, finder = byDaemon): AdminServer {
  const server = host.servers.find((candidate) => candidate.name === name);
  if (server === undefined) throw new RpcError(ErrorCode.NO_SERVER, finder.domain, finder.server(name));
  return server;
}

/** Throws an {@link RpcError} (code 96) when the server has no such client. */
export function findClient(server: AdminServer, id: bigint, finder = byDaemon): AdminClient {
  const client = id > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : server.adoptAll().get(Number(id));
  if (client === undefined) throw new RpcError(ErrorCode.NO_CLIENT, finder.domain, finder.client(id));
  return client;
}

/** Refuses flags where C checks them after the look-ups, so that dispatch must not. */
export function checkLateFlags({ flags: rule }: { readonly flags?: FlagRule }, flags: number): void {
  if (rule !== undefined) checkFlags(ErrorDomain.ADMIN, rule, flags);
}
