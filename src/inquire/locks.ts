/** The list of held locks, and its filter. Nothing here opens a file. */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import {
  FileState,
  type HoldInfo,
  HOLDS_MAX,
  type LockFilter,
  type LockInfo,
  type LockspaceInfo,
} from '../../xdr/programs/inquire.ts';
import { findHeld, type HeldFile } from '../lockspace/files.ts';
import type { Lockspace, Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import type { Hold } from '../lockspace/owner.ts';
import { FileType, fileType, inodeKey, lastStat, posix } from '../posix/posix.ts';
import { describeOwner } from './owners.ts';
import type { Step } from './pages.ts';

const { ENOENT, ENOTDIR } = constants.errno;
/** Approximate bytes of an entry without its names. */
const LOCK_SIZE = 80;
const HOLD_SIZE = 80;
/** Approximate size at which the holds go on in another entry: an owner's name may have 64 KiB. */
const ENTRY_BYTES = 128 * 1024;

/** The locks that match the filter, each in as many entries as its holds need. */
export function* matchingLocks(
  lockspaces: Lockspaces,
  filter: LockFilter,
  lookAtFiles: boolean,
): Generator<Step<LockInfo>> {
  const fits = compileFilter(lockspaces, filter);
  for (const resource of candidates(lockspaces, filter)) {
    if (resource === null || !fits(resource)) {
      yield null;
      continue;
    }
    const state = lookAtFiles ? fileState(resource, lockspaces) : FileState.NOT_LOOKED;
    let first = 0;
    do {
      const holds: HoldInfo[] = [];
      let size = LOCK_SIZE + resource.lockspace.directory.length + resource.name.length + resource.path.length;
      for (const hold of resource.holds.slice(first, first + HOLDS_MAX)) {
        const described = describeHold(hold);
        holds.push(described);
        size += HOLD_SIZE + described.owner.name.length;
        if (size >= ENTRY_BYTES) break;
      }
      const entry = lockEntry(resource, state, first, holds);
      first += holds.length;
      yield { entry, size };
    } while (first < resource.holdCount);
  }
}

/** Resources in one step, where each takes no more than comparing two pointers. */
const STRIDE = 512;

/** The resources that the indices find for the filter. Null is a step without one. */
function* candidates(lockspaces: Lockspaces, filter: LockFilter): Generator<Resource | null> {
  const { pid, lockspace, resource, path } = filter;
  if (pid !== null) {
    yield* lockspaces.heldBy(pid);
    return;
  }
  if (path !== null && resource === null) {
    yield* guardsOf(lockspaces, path);
    return;
  }
  const spaces: Iterable<Lockspace | undefined> = lockspace === null ? lockspaces : [lockspaces.find(lockspace)];
  for (const space of spaces) {
    if (space === undefined) continue;
    if (resource === null) yield* space.resources.values();
    else yield space.resources.get(resource) ?? null;
  }
}

/** The locks of the file at `path`, each once: by its name, as a disk in an indirect lockspace, and by its inode. */
function* guardsOf(lockspaces: Lockspaces, path: ByteString): Generator<Resource | null> {
  const found = new Set<Resource>();
  for (const { directory, resources } of lockspaces) {
    const names = directory === '' ? [path] : [hashOf(path)];
    if (directory !== '' && path.startsWith(`${directory}/`)) names.push(path.slice(directory.length + 1));
    for (const resource of names.map((name) => resources.get(name))) {
      if (resource === undefined || found.has(resource)) continue;
      found.add(resource);
      yield resource;
    }
  }
  const files = heldAt(lockspaces, path);
  let references = files.reduce((sum, file) => sum + file.references, 0);
  for (const resource of found) if (files.includes(resource.file)) references--;
  if (references === 0) return;
  // Under other names, by which there is no index.
  let looked = 0;
  for (const resource of lockspaces.resources()) {
    if (files.includes(resource.file) && !found.has(resource)) {
      yield resource;
      if (--references === 0) return;
    } else if (++looked % STRIDE === 0) yield null;
  }
}

function compileFilter(lockspaces: Lockspaces, filter: LockFilter): (resource: Resource) => boolean {
  const { lockspace, resource: name, path, uuid, owner } = filter;
  const tests: ((resource: Resource) => boolean)[] = [];
  if (lockspace !== null) tests.push((resource) => resource.lockspace.directory === lockspace);
  if (name !== null) tests.push((resource) => resource.name === name);
  if (path !== null) tests.push(isLockOf(lockspaces, path));
  if (uuid !== null || owner !== null) {
    const wanted = uuid?.toLowerCase() ?? null;
    tests.push(({ holds }) =>
      holds.some((hold) => {
        const known = describeOwner(hold.owner);
        return (wanted === null || known.uuid === wanted) && (owner === null || known.name === owner);
      }),
    );
  }
  return (resource) => tests.every((test) => test(resource));
}

/** Whether a lock guards the file at `path`: by its name, its inode or device, or as a disk in an indirect lockspace. */
function isLockOf(lockspaces: Lockspaces, path: ByteString): (resource: Resource) => boolean {
  const files = heldAt(lockspaces, path);
  return (resource) =>
    resource.path === path ||
    files.includes(resource.file) ||
    (resource.lockspace.directory !== '' && resource.name === hashOf(path));
}

/** The held files at the path, if that can be resolved without a file system that may hang. */
function heldAt(lockspaces: Lockspaces, path: ByteString): readonly HeldFile[] {
  return lockspaces.mayHang(path) ? [] : findHeld(path);
}

let hashed: { readonly path: ByteString; readonly hash: string } | undefined;

/** The name that libvirt gives the resource of a disk in an indirect lockspace. */
function hashOf(path: ByteString): string {
  if (hashed?.path === path) return hashed.hash;
  // Loaded when first needed, for it takes 7 ms.
  const { createHash } = process.getBuiltinModule('node:crypto');
  const hash = createHash('sha256').update(Buffer.from(path, 'latin1')).digest('hex');
  hashed = { path, hash };
  return hash;
}

function lockEntry(resource: Resource, file: number, firstHold: number, holds: HoldInfo[]): LockInfo {
  const { lockspace, name, path, mode } = resource;
  return {
    lockspace: lockspace.directory,
    name,
    path,
    flags: mode.flags,
    descriptor: resource.file.fd,
    device: resource.file.device,
    inode: BigInt(resource.file.inode),
    file,
    holdCount: resource.holdCount,
    firstHold,
    holds,
  };
}

/** A lock with its first holds, for an event. */
export function describeFirst(resource: Resource, most: number): LockInfo {
  return lockEntry(resource, FileState.NOT_LOOKED, 0, resource.holds.slice(0, most).map(describeHold));
}

/** A lock with one hold, for an event. */
export function describeChange(resource: Resource, hold: Hold): LockInfo {
  return lockEntry(resource, FileState.NOT_LOOKED, 0, [describeHold(hold)]);
}

function describeHold({ owner, since, client }: Hold): HoldInfo {
  return { owner: describeOwner(owner), since, client };
}

function fileState({ path, file }: Resource, lockspaces: Lockspaces): number {
  if (file.engine !== null) return FileState.IN_ETCD;
  if (file.remote !== null || lockspaces.mayHang(path)) return FileState.NOT_LOOKED;
  if (posix.fstatInode(file.fd) !== 0 || inodeKey(lastStat()) !== file.key) return FileState.BROKEN;
  const status = posix.statInode(path);
  if (status === 0) return inodeKey(lastStat()) === file.key ? FileState.SAME : FileState.REPLACED;
  return status === -ENOENT || status === -ENOTDIR ? FileState.GONE : FileState.UNREADABLE;
}

export function* describeLockspaces(lockspaces: Lockspaces): Generator<Step<LockspaceInfo>> {
  for (const { directory, resources, engine } of lockspaces) {
    yield {
      entry: {
        directory,
        locks: resources.size,
        file: engine !== null ? FileState.IN_ETCD : stateOfDirectory(directory, lockspaces),
      },
      size: LOCK_SIZE + directory.length,
    };
  }
}

function stateOfDirectory(directory: ByteString, lockspaces: Lockspaces): number {
  if (directory === '') return FileState.SAME;
  if (lockspaces.mayHang(directory)) return FileState.NOT_LOOKED;
  const type = fileType(directory);
  if (type === FileType.DIRECTORY) return FileState.SAME;
  if (type >= 0) return FileState.REPLACED;
  return type === -ENOENT || type === -ENOTDIR ? FileState.GONE : FileState.UNREADABLE;
}
