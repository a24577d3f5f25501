/** Storage that helper processes call in place of the daemon. */
import { CALLS_MAX, type StorageInfo } from '../../xdr/programs/inquire.ts';
import { PATH_MAX } from '../storage/messages.ts';
import type { StorageView } from '../storage/storages.ts';

export function describeStorages(views: readonly StorageView[]): StorageInfo[] {
  return views.map(({ name, pid, hangsSince, calls }) => ({
    name: name.slice(0, PATH_MAX),
    pid,
    hangsSince,
    callCount: calls.length,
    calls: calls.slice(0, CALLS_MAX).map(({ request, pid: owner, since }) => ({
      path: (request.path ?? '').slice(0, PATH_MAX),
      pid: owner >>> 0,
      since,
    })),
  }));
}
