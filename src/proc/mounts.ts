/** Types of file systems, from /proc/self/mountinfo: no file system is asked. */
import { readFileSync } from 'node:fs';
import type { ByteString } from '../../xdr/codec.ts';

/**
 * Types whose locks are in the kernel alone: it knows every lock, and a request never waits for another machine or process. All
 * other types count as not local, known or not.
 */
const LOCAL: ReadonlySet<string> = new Set([
  ...['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'f2fs', 'jfs', 'reiserfs', 'nilfs2', 'bcachefs', 'zfs'],
  ...['tmpfs', 'ramfs', 'devtmpfs', 'hugetlbfs', 'overlay'],
  ...['vfat', 'msdos', 'exfat', 'ntfs3', 'udf', 'iso9660', 'squashfs', 'erofs'],
]);

export function isLocalType(type: string | undefined): boolean {
  return type !== undefined && LOCAL.has(type);
}

/** Whether the kernel may have no record of the locks there: a FUSE server may keep them itself. */
export function mayKeepNoRecord(type: string | undefined): boolean {
  return type !== undefined && /^(?:fuse(?:blk|\..*)?|virtiofs)$/.test(type);
}

interface Mount {
  readonly point: ByteString;
  readonly type: string;
}

/** Mounts by their ids: the device numbers that stat returns for btrfs and some overlays are not in the table. */
export function parseMounts(text: string): Map<number, Mount> {
  const mounts = new Map<number, Mount>();
  // Behind the mount point and its options stand any number of fields, and then a hyphen.
  for (const [, id, point = '', type = ''] of text.matchAll(/^(\d+) \S+ \S+ \S+ (\S+) (?:\S+ )*?- (\S+) /gm)) {
    const unescaped = point.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
    mounts.set(Number(id), { point: unescaped, type });
  }
  return mounts;
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
    let found: Mount | undefined;
    for (const mount of this.all.values()) {
      const { point } = mount;
      const isAbove = point === '/' || path === point || path.startsWith(`${point}/`);
      // Of two at the same place, the later one hides the earlier.
      if (isAbove && point.length >= (found?.point.length ?? 0)) found = mount;
    }
    return found?.type;
  }

  /** Reads them again when they are needed next. */
  forget(): void {
    this.mounts = undefined;
  }

  private get all(): Map<number, Mount> {
    try {
      return (this.mounts ??= parseMounts(readFileSync('/proc/self/mountinfo', 'latin1')));
    } catch {
      return (this.mounts = new Map());
    }
  }
}
