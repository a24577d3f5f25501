/** Held locks as the inquire program tells them, and which of them a filter means. Nothing here opens a file. */
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
import { flagsOf } from '../lockspace/mode.ts';
import { findHeld } from '../lockspace/files.ts';
import type { Lockspace, Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import type { Hold } from '../lockspace/owner.ts';
import { FileType, inodeKey, lastStat, posix } from '../posix/posix.ts';
import { describeOwner } from './owners.ts';
import type { Step } from './pages.ts';

const { ENOENT, ENOTDIR } = constants.errno;
/** About how many bytes an entry takes beside its names. */
const LOCK_SIZE = 80;
const HOLD_SIZE = 80;
/** Holds go into an entry until it has about so many bytes: an owner's name may have 64 KiB. */
const ENTRY_BYTES = 128 * 1024;

/** The locks that fit the filter, each in as many entries as its holds need. */
export function* matchingLocks(
  lockspaces: Lockspaces,
  filter: LockFilter,
  lookAtFiles: boolean,
): Generator<Step<LockInfo>> {
  const fits = compileFilter(filter);
  for (const resource of candidates(lockspaces, filter)) {
    if (resource === null || !fits(resource)) {
      yield null;
      continue;
    }
    const state = lookAtFiles ? fileState(resource) : FileState.NOT_LOOKED;
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
    } while (first < resource.holds.length);
  }
}

/** Resources that are looked at in one step, where looking is no more than comparing two pointers. */
const STRIDE = 512;

/** What the filter cannot exclude by an index. */
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
  const files = findHeld(path);
  let references = files.reduce((sum, file) => sum + file.references, 0);
  for (const resource of found) if (files.includes(resource.file)) references--;
  if (references === 0) return;
  // Under other names, of which nobody keeps account.
  let looked = 0;
  for (const resource of lockspaces.resources()) {
    if (files.includes(resource.file) && !found.has(resource)) {
      yield resource;
      if (--references === 0) return;
    } else if (++looked % STRIDE === 0) yield null;
  }
}

function compileFilter(filter: LockFilter): (resource: Resource) => boolean {
  const { lockspace, resource: name, path, uuid, owner } = filter;
  const tests: ((resource: Resource) => boolean)[] = [];
  if (lockspace !== null) tests.push((resource) => resource.lockspace.directory === lockspace);
  if (name !== null) tests.push((resource) => resource.name === name);
  if (path !== null) tests.push(isLockOf(path));
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
function isLockOf(path: ByteString): (resource: Resource) => boolean {
  const files = findHeld(path);
  return (resource) =>
    resource.path === path ||
    files.includes(resource.file) ||
    (resource.lockspace.directory !== '' && resource.name === hashOf(path));
}

let hashed: { readonly path: ByteString; readonly hash: string } | undefined;

/** The resource's name that libvirt gives a disk in an indirect lockspace. */
function hashOf(path: ByteString): string {
  if (hashed?.path === path) return hashed.hash;
  // Loaded only here, in 7 ms: neither a start of the daemon nor one without such lockspaces is to wait for it.
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
    flags: flagsOf(mode),
    descriptor: resource.file.fd,
    device: resource.file.device,
    inode: BigInt(resource.file.inode),
    file,
    holdCount: resource.holds.length,
    firstHold,
    holds,
  };
}

/** A lock with one hold: what an event tells. */
export function describeChange(resource: Resource, hold: Hold): LockInfo {
  return lockEntry(resource, FileState.NOT_LOOKED, 0, [describeHold(hold)]);
}

function describeHold({ owner, since, client }: Hold): HoldInfo {
  return { owner: describeOwner(owner), since, client };
}

function fileState({ path, file }: Resource): number {
  if (posix.fstatInode(file.fd) !== 0 || inodeKey(lastStat()) !== file.key) return FileState.BROKEN;
  const status = posix.statInode(path);
  if (status === 0) return inodeKey(lastStat()) === file.key ? FileState.SAME : FileState.REPLACED;
  return status === -ENOENT || status === -ENOTDIR ? FileState.GONE : FileState.UNREADABLE;
}

export function* describeLockspaces(lockspaces: Lockspaces): Generator<Step<LockspaceInfo>> {
  for (const { directory, resources } of lockspaces) {
    yield {
      entry: { directory, locks: resources.size, file: directoryState(directory) },
      size: LOCK_SIZE + directory.length,
    };
  }
}

function directoryState(directory: ByteString): number {
  if (directory === '') return FileState.SAME;
  const type = posix.fileType(directory);
  if (type === FileType.DIRECTORY) return FileState.SAME;
  if (type >= 0) return FileState.REPLACED;
  return type === -ENOENT || type === -ENOTDIR ? FileState.GONE : FileState.UNREADABLE;
}
