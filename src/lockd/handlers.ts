/** The eight procedures of the lock program. Dispatch has checked the flags. */
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import type { Handlers } from '../../xdr/program.ts';
import type { lockProcedures } from '../../xdr/programs/lock.ts';
import { LimitError } from '../lockspace/budget.ts';
import type { Lockspace } from '../lockspace/lockspaces.ts';
import type { OwnerIdentity } from '../lockspace/owner.ts';
import { logger } from '../log/log.ts';
import { RpcError } from '../libvirt/errors.ts';
import type { LockClient } from './client.ts';
import { modeOf } from '../lockspace/mode.ts';

const log = logger('locking.lock_daemon_dispatch');

function toError(code: ErrorCode, detail: string): RpcError {
  return new RpcError(code, ErrorDomain.RPC, detail);
}

function assertUnrestricted(client: LockClient): void {
  if (client.restricted) {
    throw toError(ErrorCode.OPERATION_DENIED, 'lock manager connection has been restricted');
  }
}

/** The owner that the client registered; an id of 0 counts as none. */
function registeredOwner(client: LockClient): OwnerIdentity {
  assertUnrestricted(client);
  if (client.owner === null) {
    throw toError(ErrorCode.OPERATION_INVALID, 'lock owner details have not been registered');
  }
  return client.owner;
}

function unknownLockspace(path: string): RpcError {
  return toError(ErrorCode.INTERNAL_ERROR, `Lockspace for path ${path} does not exist`);
}

function knownLockspace({ host: { lockspaces } }: LockClient, path: string): Lockspace {
  const lockspace = lockspaces.find(path);
  if (lockspace === undefined) throw unknownLockspace(path);
  return lockspace;
}

/** The 36 characters of a UUID. */
function formatUuid(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  // Slices, which are faster than a regular expression: every REGISTER does this.
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

export const lockHandlers: Handlers<typeof lockProcedures, LockClient> = {
  register(client, { owner: { pid, id, name, uuid } }) {
    assertUnrestricted(client);
    if (id === 0) throw toError(ErrorCode.OPERATION_INVALID, 'lock owner details have not been registered');
    client.register({ pid, id, name, uuid: formatUuid(uuid) });
    return undefined;
  },

  restrict(client) {
    registeredOwner(client);
    client.restrict();
    return undefined;
  },

  newLockspace(client, { path }) {
    registeredOwner(client);
    const { lockspaces } = client.host;
    if (path === '') throw toError(ErrorCode.OPERATION_INVALID, 'the default lockspace already exists');
    if (lockspaces.find(path) !== undefined) {
      throw toError(ErrorCode.INTERNAL_ERROR, `Lockspace for path ${path} already exists`);
    }
    try {
      client.remote.run(() => lockspaces.create(path, client.remote));
    } catch (error) {
      // C answers success all the same, without the lockspace.
      if (!(error instanceof RpcError) || error instanceof LimitError) throw error;
      log.warn(error.message);
    }
    return undefined;
  },

  createResource(client, { path, name }) {
    registeredOwner(client);
    const { remote } = client;
    const lockspace = knownLockspace(client, path);
    remote.run(() => {
      client.host.lockspaces.createResource(lockspace, name, remote);
    });
    return undefined;
  },

  deleteResource(client, { path, name }) {
    registeredOwner(client);
    const { remote } = client;
    const lockspace = knownLockspace(client, path);
    remote.run(() => {
      client.host.lockspaces.deleteResource(lockspace, name, remote);
    });
    return undefined;
  },

  acquireResource(client, { path, name, flags }) {
    const { lockspaces } = client.host;
    const owner = client.identify(registeredOwner(client));
    const hold = { owner, since: Date.now(), client: client.connection.id };
    const mode = modeOf(flags);
    const lockspace = lockspaces.find(path);
    if (lockspace === undefined) {
      throw lockspaces.reportRefusal({ directory: path }, name, mode, hold, { error: unknownLockspace(path) });
    }
    const { remote } = client;
    remote.run(() => {
      lockspaces.acquire(lockspace, name, mode, hold, remote);
      // The end of the owner's own connection is the owner's.
      if (!client.isOwnerItself) client.host.ownerReaper.follow(hold.owner);
    });
    return undefined;
  },

  releaseResource(client, { path, name }) {
    const { pid } = registeredOwner(client);
    const { remote } = client;
    const lockspace = knownLockspace(client, path);
    remote.run(() => {
      client.host.lockspaces.release(lockspace, name, pid, remote);
    });
    return undefined;
  },

  createLockspace(client, { path }) {
    assertUnrestricted(client);
    const { lockspaces, dialect } = client.host;
    const { remote } = client;
    if (lockspaces.find(path) === undefined) remote.run(() => lockspaces.create(path, remote));
    else if (dialect.createLockspaceOnce) {
      throw toError(ErrorCode.OPERATION_INVALID, `Lockspace for path ${path} already exists`);
    }
    return undefined;
  },
};
