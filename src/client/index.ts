/**
 * A client of libvirt's lock daemon, virtlockd: this project's or the C one.
 *
 * {@link LockClient} makes the calls of the lock program, {@link LockDriver} locks a guest's disks and leases as libvirt's lock
 * driver does, and {@link AdminClient} makes the calls of virt-admin.
 * @module
 */
export {
  ADMIN_SOCKET,
  AdminClient,
  type ClientIdentity,
  type ClientLimits,
  type ClientLimitsChange,
  type ConnectedClient,
  type LibraryVersion,
  type LogSetting,
  type ThreadPool,
  type ThreadPoolChange,
} from './admin-client.ts';
export type { CallOptions } from './client.ts';
export { CallTimeout, ConnectionLost, ProtocolError, type RemoteDetails, RemoteFailure } from './errors.ts';
export { type AcquireOptions, DEFAULT_LOCKSPACE, LOCK_SOCKET, LockClient } from './lock-client.ts';
export {
  type DiskOptions,
  diskResourceName,
  type LeaseDetails,
  LeaseRequired,
  LockDriver,
  type LockDriverOptions,
  LockManager,
} from './lock-driver.ts';
export type { Parameters, ParameterValue } from './parameters.ts';
export type { Name, OwnerDetails } from './values.ts';
export { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
