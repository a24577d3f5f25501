/**
 * Which file system a path leads to, if that may hang. Reads symbolic links on other file systems only, and /proc: a file system that may
 * hang is never asked.
 */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { bytesOf } from '../posix/bytes.ts';
import { FileType, posix, type Stat } from '../posix/posix.ts';
import { type Mount, readMounts, typeMayFreeze, typeMayHang } from './mounts.ts';

const { EINVAL } = constants.errno;

/** As in the kernel. */
const MAX_LINKS = 40;
/** How many helpers the device nodes share. */
const NODE_HELPERS = 16;

/** What one helper calls: a file system, or some of the device nodes. */
export interface Place {
  readonly key: string;
  /** For people: where it is mounted. */
  readonly name: ByteString;
}

interface RouteOptions {
  readonly mounts?: () => ReadonlyMap<number, Mount>;
  readonly readLink?: (path: ByteString) => ByteString | number;
}

export class Routes {
  private readonly read: () => ReadonlyMap<number, Mount>;
  private readonly readLink: (path: ByteString) => ByteString | number;
  private table: Table | undefined;

  /** By default of this process. */
  constructor({ mounts = readMounts, readLink = (path) => posix.readLink(path) }: RouteOptions = {}) {
    this.read = mounts;
    this.readLink = readLink;
  }

  /** Mounts have changed: the table is read again when it is needed. */
  forget(): void {
    this.table = undefined;
  }

  /** Whether any file system is mounted that may hang. */
  get mayHang(): boolean {
    return (this.table ??= new Table(this.read())).mayHang;
  }

  /** The file system that a call for the path would ask, if it may hang. Makes no system call where none of these is mounted. */
  placeOf(path: ByteString): Place | null {
    const mount = this.mayHang ? this.mountOf(path) : undefined;
    return mount !== undefined && typeMayHang(mount.type) ? placeOfMount(mount) : null;
  }

  /** The local file system in which a call for the path would make a name, if it may be frozen. */
  freezableAt(path: ByteString): Place | null {
    const mount = this.mountOf(path);
    return mount !== undefined && typeMayFreeze(mount.type) ? placeOfMount(mount) : null;
  }

  /** The mount at which the path ends, if with an error, or the first one on its way that may hang. */
  private mountOf(path: ByteString): Mount | undefined {
    const table = (this.table ??= new Table(this.read()));
    let mount = table.root;
    if (mount === undefined || typeMayHang(mount.type)) return mount;
    let at = '';
    let left = absolutePath(path).split('/');
    for (let links = 0; ;) {
      const part = left.shift();
      if (part === undefined) return mount;
      if (part === '' || part === '.') continue;
      if (part === '..') {
        at = at.slice(0, Math.max(at.lastIndexOf('/'), 0));
        mount = table.mountOf(at) ?? mount;
        continue;
      }
      const next: ByteString = `${at}/${part}`;
      const entered = table.mountedOn(mount, next);
      if (entered !== mount) {
        if (typeMayHang(entered.type)) return entered;
        [at, mount] = [next, entered];
        continue;
      }
      const target = this.readLink(next);
      if (target === -EINVAL) at = next;
      // The path ends here, with an error.
      else if (typeof target === 'number' || ++links > MAX_LINKS) return mount;
      else {
        left = [...target.split('/'), ...left];
        if (target.startsWith('/')) [at, mount] = ['', table.root ?? mount];
      }
    }
  }
}

/** Whether a call for the path may wait for a file system that does not answer. Reads the table of mounts each time. */
export function mayHang(path: ByteString): boolean {
  return new Routes().placeOf(path) !== null;
}

/** Whether a call that makes or writes a file there may wait for a local file system that is frozen. */
export function mayFreeze(path: ByteString): boolean {
  return new Routes().freezableAt(path) !== null;
}

/** For a helper, which has another working directory. A zero ends a path, as in C. */
export function absolutePath(path: ByteString): ByteString {
  const [text = ''] = path.split('\0', 1);
  return text.startsWith('/') ? text : `${bytesOf(process.cwd())}/${text}`;
}

function placeOfMount({ major, minor, point }: Mount): Place {
  return { key: `fs ${major}:${minor}`, name: point };
}

/** Whether the open of a file asks a device that stores. Of character devices, the kernel itself answers for those that anybody locks. */
export function isNode({ type }: Pick<Stat, 'type'>): boolean {
  return type === FileType.BLOCK;
}

export function placeOfNode({ inode }: Pick<Stat, 'inode'>): Place {
  const index = Number(BigInt(inode) % BigInt(NODE_HELPERS));
  return { key: `nodes ${index}`, name: `device nodes, group ${index}` };
}

/** Mounts as a tree: a mount may be hidden by a later one above it. */
class Table {
  readonly root: Mount | undefined;
  readonly mayHang: boolean;
  /** By parent's id and mount point. */
  private readonly children = new Map<string, Mount>();

  constructor(mounts: ReadonlyMap<number, Mount>) {
    let root: Mount | undefined;
    let hangs = false;
    for (const mount of mounts.values()) {
      hangs ||= typeMayHang(mount.type);
      const isRoot = mount.point === '/' && (mount.parent === mount.id || !mounts.has(mount.parent));
      if (isRoot) root = mount;
      else this.children.set(`${mount.parent} ${mount.point}`, mount);
    }
    this.mayHang = hangs;
    this.root = root && this.mountedOn(root, '/');
  }

  /** The mount that is seen at the path, of those on `mount`; that itself if nothing is mounted there. */
  mountedOn(mount: Mount, path: ByteString): Mount {
    let seen = mount;
    for (let next: Mount | undefined = mount; next !== undefined; next = this.children.get(`${next.id} ${path}`))
      seen = next;
    return seen;
  }

  /** The mount of a path without links. */
  mountOf(path: ByteString): Mount | undefined {
    let mount = this.root;
    for (let end = path.indexOf('/', 1); mount !== undefined; end = path.indexOf('/', end + 1)) {
      mount = this.mountedOn(mount, end < 0 ? path : path.slice(0, end));
      if (end < 0) break;
    }
    return mount;
  }
}
