/** Locks that hosts have in etcd, as text and as JSON. */
import type { ByteString } from '../../../xdr/codec.ts';
import type { EtcdInfo, EtcdLock } from '../../../xdr/programs/inquire.ts';
import { isBelow } from '../../etcd/settings.ts';
import { age, name, nameJson, time } from './output.ts';

type Json = Record<string, unknown>;

export function etcdLockJson({ path, shared, host, lease, revision, since, owners, ownerCount }: EtcdLock): Json {
  return {
    ...nameJson('path', path),
    mode: shared ? 'shared' : 'exclusive',
    ...nameJson('host', host),
    lease: leaseText(lease),
    revision: Number(revision),
    since: since === 0 ? null : new Date(since).toISOString(),
    owners: owners.map(({ name: vm, uuid, pid }) => ({ ...nameJson('name', vm), uuid, pid })),
    ownerCount,
  };
}

/** Whether a lockspace, or a resource by its path, is kept in etcd. */
export function isKeptInEtcd({ lockspaces }: EtcdInfo, path: ByteString): boolean {
  return isBelow(path, lockspaces);
}

/** Who holds it, as `db (pid 7) on host node7`. */
export function etcdHolders({ host, owners, ownerCount }: EtcdLock): string {
  const known = owners.map(({ name: vm, pid }) => `${name(vm)} (pid ${pid})`).join(', ');
  const more = ownerCount > owners.length ? ` and ${ownerCount - owners.length} more` : '';
  return `${known === '' ? 'an owner that is not known' : known}${more} on host ${name(host)}`;
}

/** As etcdctl writes it. */
export function leaseText(lease: string): string {
  return BigInt(lease).toString(16);
}

export const ETCD_HEADINGS = ['HOST', 'VM', 'PID', 'MODE', 'SINCE', 'REVISION', 'PATH'];

/** A row for each owner. */
export function etcdRows({ path, shared, host, revision, since, owners, ownerCount }: EtcdLock): string[][] {
  const known = owners.length === 0 ? [{ name: '', uuid: '', pid: 0 }] : owners;
  const rows = known.map(({ name: vm, pid }) => [
    host === '' ? '-' : name(host),
    vm === '' ? '-' : name(vm),
    pid === 0 ? '-' : String(pid),
    shared ? 'shared' : 'exclusive',
    age(since),
    revision,
    name(path),
  ]);
  const more = ownerCount - owners.length;
  return more > 0 ? [...rows, [name(host), `and ${more} more`, '', '', '', '', name(path)]] : rows;
}

/** Lines for people. @param where how the lock guards the file */
export function describeEtcdLock({ shared, host, lease, revision, since, owners }: EtcdLock, where: string): string[] {
  return owners.flatMap(({ name: vm, uuid, pid }) => [
    `${name(vm)} (pid ${pid}) on host ${name(host)} holds ${shared ? 'a shared' : 'an exclusive'} lock in etcd${where}`,
    `  uuid ${uuid}, since ${time(since)}, revision ${revision}, on lease ${leaseText(lease)}`,
  ]);
}
