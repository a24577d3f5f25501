/** What kinds of file systems open files are on: from /proc/self/mountinfo, which asks none of them. */
import { readFileSync } from 'node:fs';
import type { ByteString } from '../../xdr/codec.ts';

/**
 * Types whose locks are the kernel's own affair: it knows of every lock there is, and asking it never waits for another
 * machine or process. All others count as not local, known or not.
 */
const LOCAL: ReadonlySet<string> = new Set([
  ...['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'f2fs', 'jfs', 'reiserfs', 'nilfs2', 'bcachefs', 'zfs'],
  ...['tmpfs', 'ramfs', 'devtmpfs', 'hugetlbfs', 'overlay'],
  ...['vfat', 'msdos', 'exfat', 'ntfs3', 'udf', 'iso9660', 'squashfs', 'erofs'],
]);

export function isLocalType(type: string | undefined): boolean {
  return type !== undefined && LOCAL.has(type);
}

/** Whether the kernel may keep no record of the locks there: a FUSE server that wants to answers for them alone. */
export function mayKeepNoRecord(type: string | undefined): boolean {
  return type !== undefined && /^(?:fuse(?:blk|\..*)?|virtiofs)$/.test(type);
}

export interface Mount {
  readonly point: ByteString;
  readonly type: string;
}

/** Mounts by their ids. Device numbers would not do: what stat tells of btrfs and of some overlays is not in the table. */
export function parseMounts(text: string): Map<number, Mount> {
  const mounts = new Map<number, Mount>();
  // Behind the mount point and its options come any number of fields, and then a hyphen.
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

  /** The type of that mount; undefined when it cannot be told: it is of another namespace, or not mounted any more. */
  typeOf(id: number): string | undefined {
    return this.all.get(id)?.type;
  }

  /** The type of what is mounted where the path leads, if no link leads it elsewhere. The path itself is not looked at. */
  typeAt(path: ByteString): string | undefined {
    let found: Mount | undefined;
    for (const mount of this.all.values()) {
      const { point } = mount;
      const isAbove = point === '/' || path === point || path.startsWith(`${point}/`);
      // Of two at the same place, the later one hides the other.
      if (isAbove && point.length >= (found?.point.length ?? 0)) found = mount;
    }
    return found?.type;
  }

  /** Has them read again when they are needed next. */
  forget(): void {
    this.mounts = undefined;
  }

  private get all(): Map<number, Mount> {
    return (this.mounts ??= readMounts());
  }
}

function readMounts(): Map<number, Mount> {
  try {
    return parseMounts(readFileSync('/proc/self/mountinfo', 'latin1'));
  } catch {
    return new Map();
  }
}
