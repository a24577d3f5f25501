/** What virtlockd.conf says of etcd. */
import type { ByteString } from '../../xdr/codec.ts';

export interface EtcdSettings {
  /** URLs of the members, without a path. */
  readonly endpoints: readonly string[];
  /** Normal paths of directories: lockspaces there are kept in etcd. */
  readonly lockspaces: readonly ByteString[];
  /** What all keys begin with. */
  readonly prefix: ByteString;
  /** The time to live of the host's lease, in seconds. */
  readonly leaseSeconds: number;
  /** Paths of PEM files; empty: none. */
  readonly caFile: ByteString;
  readonly certFile: ByteString;
  readonly keyFile: ByteString;
  /** Empty: no authentication. */
  readonly user: ByteString;
  readonly password: ByteString;
  /** The file with the password; empty: {@link password} has it. */
  readonly passwordFile: ByteString;
  /** What becomes of a host on which an owner cannot be killed before the lease ends. */
  readonly fence: 'kill' | 'reboot';
  /** The device of a hardware watchdog that the guard feeds; empty: there is none; `none`: there is none, and the operator knows. */
  readonly watchdog: ByteString;
}

export const DEFAULT_ETCD: EtcdSettings = {
  endpoints: [],
  lockspaces: ['/var/lib/libvirt/lockd/etcd'],
  prefix: '/virtlockd',
  leaseSeconds: 30,
  caFile: '',
  certFile: '',
  keyFile: '',
  user: '',
  password: '',
  passwordFile: '',
  fence: 'kill',
  watchdog: '',
};

/** Whether settings differ in nothing but how the host proves itself. */
export function isSameButCredentials(one: EtcdSettings, other: EtcdSettings): boolean {
  return (
    JSON.stringify({ ...one, ...credentialsOf(DEFAULT_ETCD) }) ===
    JSON.stringify({ ...other, ...credentialsOf(DEFAULT_ETCD) })
  );
}

/** How the host proves itself to etcd. */
type Credentials = Pick<EtcdSettings, 'caFile' | 'certFile' | 'keyFile' | 'user' | 'password' | 'passwordFile'>;

export function credentialsOf(settings: EtcdSettings): Credentials {
  const { caFile, certFile, keyFile, user, password, passwordFile } = settings;
  return { caFile, certFile, keyFile, user, password, passwordFile };
}

/** For the state of a restart and the record, which no password gets into. */
export function withoutPassword(settings: EtcdSettings): EtcdSettings {
  return { ...settings, password: '' };
}

/** Those of {@link withoutPassword}, to which a password belongs. */
export function lacksPassword({ user, password, passwordFile }: EtcdSettings): boolean {
  return user !== '' && password === '' && passwordFile === '';
}

/** Limits of the lease, in seconds. etcd grants none below two of its election timeouts. */
export const MIN_LEASE = 2;
export const MAX_LEASE = 3600;

/** The path without doubled slashes, `.` and `..`, as it would be followed without symbolic links; no slash at its end. */
export function normalPath(path: ByteString): ByteString {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `${path.startsWith('/') ? '/' : ''}${parts.join('/')}`;
}

/** Whether a path is one of the directories, or below one. */
export function isBelow(path: ByteString, directories: readonly ByteString[]): boolean {
  const normal = normalPath(path);
  return directories.some((directory) => normal === directory || normal.startsWith(`${directory}/`));
}

/** Why settings are of no use together; undefined: they are. Names the setting. */
export function contradictionIn(settings: EtcdSettings): string | undefined {
  const { endpoints, lockspaces, prefix, certFile, keyFile, user, password, passwordFile, watchdog } = settings;
  for (const endpoint of endpoints) {
    const reason = faultOfEndpoint(endpoint);
    // Of an URL with a password the log must not have it.
    if (reason !== undefined) return `etcd_endpoints: '${endpoint.replace(/\/\/.*@/, '//')}' ${reason}`;
  }
  if (lockspaces.length === 0) return 'etcd_lockspaces names no directory';
  for (const path of lockspaces) {
    if (!path.startsWith('/')) return `etcd_lockspaces: '${path}' is no absolute path`;
    if (path === '/') return "etcd_lockspaces: '/' would be every lockspace";
  }
  if (!/^\/[^\0]*[^/\0]$/.test(prefix) || prefix.includes('//'))
    return `etcd_prefix: '${prefix}' must begin with a slash, end with none, and have no two in a row`;
  if (watchdog !== '' && watchdog !== 'none' && !watchdog.startsWith('/'))
    return `etcd_watchdog: '${watchdog}' is neither "none" nor the path of a device such as "/dev/watchdog0"`;
  if ((certFile === '') !== (keyFile === '')) return 'etcd_cert_file and etcd_key_file belong together';
  if (user.includes(':')) return 'etcd_user must have no colon';
  if (password !== '' && passwordFile !== '') return 'etcd_password and etcd_password_file are both set';
  if (user !== '' && password === '' && passwordFile === '')
    return 'etcd_user needs etcd_password_file or etcd_password';
  if (user === '' && (password !== '' || passwordFile !== '')) return 'a password for etcd needs etcd_user';
  return undefined;
}

function faultOfEndpoint(endpoint: string): string | undefined {
  if (!URL.canParse(endpoint)) return 'is no URL such as "https://etcd1:2379"';
  const { protocol, pathname, search, hash, username, password } = new URL(endpoint);
  if (protocol !== 'http:' && protocol !== 'https:') return 'must begin with http:// or https://';
  if ((pathname !== '/' && pathname !== '') || search !== '' || hash !== '') return 'must end with host or port';
  return username === '' && password === '' ? undefined : 'must have no user: etcd_user has it';
}
