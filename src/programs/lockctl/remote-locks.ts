/** Who frees the locks of a host that is gone, by the file system. No file system is asked. */
import { readFileSync } from 'node:fs';
import type { ByteString } from '../../../xdr/codec.ts';
import { mountDetailsAt, type MountDetails } from '../../proc/mounts.ts';

type Freed = (mount: MountDetails) => string;

const SESSION: Freed = () => 'its server frees the locks of a host that is gone when it ends the session of that host';
const FENCING: Freed = () =>
  'the cluster frees the locks of a host that is gone once it has fenced that host, and not before';
const CEPH: Freed = () =>
  "its MDS frees the locks of a host that is gone when it evicts that host's session: after session_autoclose (300 s by default), or by 'ceph tell mds.* client evict'";
const NFS4: Freed = ({ point }) => {
  const lease = leaseTimeOf(point);
  const time = lease === undefined ? '' : ` (${lease} s after the server last heard of it)`;
  return `its server frees the locks of a host that is gone when the lease of that host ends${time}`;
};

const FREED_BY: Readonly<Record<string, Freed>> = {
  nfs: () =>
    "with NFSv3 the server keeps the locks of a host that is gone until that host starts again and its statd tells the server, or until the server's lock manager is reset, which drops the locks of all hosts",
  nfs4: NFS4,
  cifs: SESSION,
  smb3: SESSION,
  'fuse.glusterfs': () =>
    'its bricks free the locks of a host that is gone when they notice that it is disconnected: at once when its client ends, else after server.tcp-user-timeout (42 s by default)',
  ceph: CEPH,
  'fuse.ceph': CEPH,
  'fuse.ceph-fuse': CEPH,
  gfs2: FENCING,
  ocfs2: FENCING,
};

const ADVICE =
  'Make sure that the host is off. Do not delete the file: a host that is alive keeps its lock on the deleted file, while another locks a new one.';

/**
 * Sentences about the file system at a path, if no link leads elsewhere; undefined where nothing is known.
 *
 * @param table in place of /proc/self/mountinfo
 */
export function freedBy(path: ByteString, table?: string): string | undefined {
  const mount = mountDetailsAt(path, table);
  const how = mount === undefined ? undefined : FREED_BY[mount.type];
  return mount === undefined || how === undefined
    ? undefined
    : `The file system is ${mount.type}: ${how(mount)}. ${ADVICE}`;
}

/**
 * A sentence about locks that the file system at a path does not report to F_GETLK; undefined where none are known.
 *
 * @param table in place of /proc/self/mountinfo
 */
export function unreportedAt(path: ByteString, table?: string): string | undefined {
  return mountDetailsAt(path, table)?.type === 'nfs'
    ? 'NFSv3 reports no shared locks of other hosts: one of these would refuse an exclusive lock all the same.'
    : undefined;
}

/** In seconds, as the server of an NFSv4 mount has told its client; undefined where the kernel does not report it. */
function leaseTimeOf(point: ByteString): number | undefined {
  try {
    return parseLeaseTime(readFileSync('/proc/self/mountstats', 'latin1'), point);
  } catch {
    return undefined;
  }
}

/** From the text of /proc/self/mountstats. */
export function parseLeaseTime(text: string, point: ByteString): number | undefined {
  const ours = text
    .split(/^device /m)
    .find((part) => part.split('\n', 1)[0]?.includes(` mounted on ${point.replaceAll(' ', '\\040')} with `));
  const time = /^\tnfsv4:.*\blease_time=(\d+)/m.exec(ours ?? '')?.[1];
  return time === undefined ? undefined : Number(time);
}
