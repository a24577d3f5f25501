/**
 * The keys of a resource. Its path is normal, so it has no two slashes in a row, and what follows them is the key's kind:
 *
 *     PREFIX/locks/PATH//r          the resource exists, made by CREATE_RESOURCE; on no lease
 *     PREFIX/locks/PATH//s/LEASE    a host has it shared; on that host's lease
 *     PREFIX/locks/PATH//x          a host has it exclusively; on that host's lease
 *     PREFIX/hosts/LEASE            a host's daemon; on its lease
 *
 * A resource exists as well while a host holds it. All its keys have one prefix, and one transaction can compare them all.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { normalPath } from './settings.ts';

export function lockPrefix(prefix: ByteString): ByteString {
  return `${prefix}/locks`;
}

export function hostPrefix(prefix: ByteString): ByteString {
  return `${prefix}/hosts/`;
}

/** What the keys of the resource at a path begin with. */
export function resourceKey(prefix: ByteString, path: ByteString): ByteString {
  return `${lockPrefix(prefix)}${normalPath(path)}`;
}

export const exclusiveKey = (resource: ByteString): ByteString => `${resource}//x`;
export const existenceKey = (resource: ByteString): ByteString => `${resource}//r`;
export const sharedPrefix = (resource: ByteString): ByteString => `${resource}//s/`;
export const sharedKey = (resource: ByteString, lease: string): ByteString => `${resource}//s/${leaseName(lease)}`;
export const hostKey = (prefix: ByteString, lease: string): ByteString => `${hostPrefix(prefix)}${leaseName(lease)}`;

/** The key on which a lock of that mode is. */
export function lockKey(resource: ByteString, shared: boolean, lease: string): ByteString {
  return shared ? sharedKey(resource, lease) : exclusiveKey(resource);
}

/** As etcdctl writes a lease: in hexadecimal digits. @param lease in decimal digits */
export function leaseName(lease: string): string {
  return BigInt(lease).toString(16);
}

/** The reverse of {@link leaseName}; undefined for other text. */
export function leaseNamed(name: string): string | undefined {
  return /^[0-9a-f]{1,16}$/i.test(name) ? BigInt(`0x${name}`).toString() : undefined;
}

/** The end of the range of all keys with that prefix. */
export function endOfPrefix(prefix: ByteString): ByteString {
  const last = prefix.charCodeAt(prefix.length - 1);
  return `${prefix.slice(0, -1)}${String.fromCharCode(last + 1)}`;
}

/** The resource's path in a key, and what the key is of it. Null for a key of another form. */
export function partsOfKey(
  prefix: ByteString,
  key: ByteString,
): { readonly path: ByteString; readonly kind: 'exists' | 'shared' | 'exclusive' } | null {
  const start = lockPrefix(prefix);
  const at = key.indexOf('//', start.length);
  if (!key.startsWith(start) || at < 0) return null;
  const rest = key.slice(at + 2);
  const kind = rest === 'r' ? 'exists' : rest === 'x' ? 'exclusive' : rest.startsWith('s/') ? 'shared' : null;
  return kind === null ? null : { path: key.slice(start.length, at), kind };
}
