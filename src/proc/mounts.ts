/** Types of file systems, from /proc/self/mountinfo: no file system is asked. */
import { readFileSync } from 'node:fs';
import type { ByteString } from '../../xdr/codec.ts';
import type { Process } from './processes.ts';

/**
 * Types whose locks are in the kernel alone: it knows every lock, and a request never waits for another machine or process. All
 * other types count as not local, known or not.
 */
const LOCAL: ReadonlySet<string> = new Set([
  ...['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'f2fs', 'jfs', 'reiserfs', 'nilfs2', 'bcachefs', 'zfs'],
  ...['tmpfs', 'ramfs', 'devtmpfs', 'hugetlbfs', 'overlay'],
  ...['vfat', 'msdos', 'exfat', 'ntfs3', 'udf', 'iso9660', 'squashfs', 'erofs'],
]);

/** Types without files of anybody's: the kernel answers, and no lock is taken there. */
const OF_KERNEL: ReadonlySet<string> = new Set([
  ...[
    'proc',
    'sysfs',
    'cgroup',
    'cgroup2',
    'devpts',
    'mqueue',
    'securityfs',
    'debugfs',
    'tracefs',
    'configfs',
    'fusectl',
  ],
  ...['pstore', 'bpf', 'binfmt_misc', 'efivarfs', 'selinuxfs', 'smackfs', 'nsfs', 'rpc_pipefs', 'nfsd', 'rootfs'],
]);

/** Whether a call may wait there for another machine or process: also where the type says nothing. */
export function typeMayHang(type: string): boolean {
  return !LOCAL.has(type) && !OF_KERNEL.has(type);
}

/** The local types that are on no block device, or are never written. An overlay waits for the file system of its upper layer. */
const NEVER_FROZEN: ReadonlySet<string> = new Set([
  ...['tmpfs', 'ramfs', 'devtmpfs', 'hugetlbfs', 'zfs'],
  ...['iso9660', 'squashfs', 'erofs'],
]);

/** Whether the file system may be frozen: whoever makes or removes a name there waits until it is thawed. */
export function typeMayFreeze(type: string): boolean {
  return LOCAL.has(type) && !NEVER_FROZEN.has(type);
}

export function isLocalType(type: string | undefined): boolean {
  return type !== undefined && LOCAL.has(type);
}

/** Whether the kernel may have no record of the locks there: a FUSE server may keep them itself. */
export function mayKeepNoRecord(type: string | undefined): boolean {
  return type !== undefined && /^(?:fuse(?:blk|\..*)?|virtiofs)$/.test(type);
}

export interface Mount {
  readonly id: number;
  /** The mount on which it is mounted. */
  readonly parent: number;
  readonly point: ByteString;
  readonly type: string;
  /** The file system's device number, as /proc/locks has it. */
  readonly major: number;
  readonly minor: number;
}

/** Mounts by their ids: the device numbers that stat returns for btrfs and some overlays are not in the table. */
export function parseMounts(text: string): Map<number, Mount> {
  const mounts = new Map<number, Mount>();
  // Behind the mount point and its options stand any number of fields, and then a hyphen.
  const rows = text.matchAll(/^(\d+) (\d+) (\d+):(\d+) \S+ (\S+) (?:\S+ )*?- (\S+) /gm);
  for (const [, id, parent, major, minor, point = '', type = ''] of rows) {
    mounts.set(Number(id), {
      id: Number(id),
      parent: Number(parent),
      point: unescape(point),
      type,
      major: Number(major),
      minor: Number(minor),
    });
  }
  return mounts;
}

function unescape(field: string): ByteString {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}

/** The mounts of another process's namespace, by their ids. @throws Error when they cannot be read */
export function mountsOf(pid: Process): ReadonlyMap<number, Mount> {
  return parseMounts(readFileSync(`/proc/${pid}/mountinfo`, 'latin1'));
}

/** A mount in words for people, and the device number as /proc/locks has it. */
export interface MountDetails {
  readonly device: string;
  readonly point: ByteString;
  readonly type: string;
  readonly source: ByteString;
  /** Those of the mount and those of the file system, each once. */
  readonly options: string;
}

/** Of a mount of this process's namespace. @param table in place of the kernel's @throws Error when it is not there */
export function mountDetails(id: number, table = readFileSync('/proc/self/mountinfo', 'latin1')): MountDetails {
  const row = new RegExp(`^${id} \\d+ (\\S+) \\S+ (\\S+) (\\S+) (?:\\S+ )*?- (\\S+) (\\S+) (.*)$`, 'm').exec(table);
  if (row === null) throw new Error(`there is no mount ${id}`);
  const [, device = '', point = '', options = '', type = '', source = '', ofFileSystem = ''] = row;
  const all = new Set([...options.split(','), ...ofFileSystem.split(',')]);
  return { device, point: unescape(point), type, source: unescape(source), options: [...all].join(',') };
}

/** Of the mount that a path is on, if no link leads elsewhere. @param table in place of the kernel's */
export function mountDetailsAt(path: ByteString, table?: string): MountDetails | undefined {
  const id = new Mounts(table).idAt(path);
  return id === undefined ? undefined : mountDetails(id, table);
}

/** The mounts of this process's namespace, read once. */
export class Mounts {
  private mounts: Map<number, Mount> | undefined;

  /** @param table in place of the kernel's, in the form of /proc/self/mountinfo */
  constructor(table?: string) {
    if (table !== undefined) this.mounts = parseMounts(table);
  }

  /** Undefined for a mount of another namespace, or one that is not mounted any more. */
  typeOf(id: number): string | undefined {
    return this.all.get(id)?.type;
  }

  /** The type of the file system at a path, if no link leads elsewhere. The path is not stat'ed. */
  typeAt(path: ByteString): string | undefined {
    return this.mountAt(path)?.type;
  }

  /** The id of the mount that a path is on, as {@link typeAt}. */
  idAt(path: ByteString): number | undefined {
    return this.mountAt(path)?.id;
  }

  private mountAt(path: ByteString): Mount | undefined {
    let found: Mount | undefined;
    for (const mount of this.all.values()) {
      const { point } = mount;
      const isAbove = point === '/' || path === point || path.startsWith(`${point}/`);
      // Of two at the same place, the later one hides the earlier.
      if (isAbove && point.length >= (found?.point.length ?? 0)) found = mount;
    }
    return found;
  }

  /** The point of the mount that a path is on, as {@link typeAt}. */
  pointAt(path: ByteString): ByteString | undefined {
    return this.mountAt(path)?.point;
  }

  /** Reads them again when they are needed next. */
  forget(): void {
    this.mounts = undefined;
  }

  private get all(): Map<number, Mount> {
    return (this.mounts ??= readMounts());
  }
}

/** The mounts of this process's namespace; none where /proc does not report them. */
export function readMounts(): Map<number, Mount> {
  try {
    return parseMounts(readFileSync('/proc/self/mountinfo', 'latin1'));
  } catch {
    return new Map();
  }
}
