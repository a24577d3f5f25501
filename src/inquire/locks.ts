/** Held locks as the inquire program tells them, and which of them a filter means. Nothing here opens a file. */
import os from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import {
  FileState,
  type HoldInfo,
  HOLDS_MAX,
  type LockFilter,
  type LockInfo,
  type LockspaceInfo,
} from '../../xdr/programs/inquire.ts';
import { inodeOf } from '../lockspace/files.ts';
import type { Lockspace, Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import type { Hold } from '../lockspace/owner.ts';
import { inodeKey, posix } from '../posix/posix.ts';
import { describeOwner } from './owners.ts';
import type { Step } from './pages.ts';

const { ENOENT, ENOTDIR } = os.constants.errno;
/** S_IFDIR of <sys/stat.h>. */
const DIRECTORY = 0o040000;
const inode = new Float64Array(4);
/** About how many bytes an entry takes beside its names. */
const LOCK_SIZE = 80;
const HOLD_SIZE = 80;

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
      const holds = resource.holds.slice(first, first + HOLDS_MAX).map(describeHold);
      const entry = lockEntry(resource, state, first, holds);
      const size = LOCK_SIZE + resource.name.length + resource.path.length + holds.length * HOLD_SIZE;
      first += HOLDS_MAX;
      yield { entry, size };
    } while (first < resource.holds.length);
  }
}

/** What the filter cannot exclude by an index. */
function* candidates(lockspaces: Lockspaces, { pid, lockspace, resource }: LockFilter): Generator<Resource | null> {
  if (pid !== null) {
    yield* lockspaces.heldBy(pid);
    return;
  }
  const spaces: Iterable<Lockspace | undefined> = lockspace === null ? lockspaces : [lockspaces.find(lockspace)];
  for (const space of spaces) {
    if (space === undefined) continue;
    if (resource === null) yield* space.resources.values();
    else yield space.resources.get(resource) ?? null;
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

/** Whether a lock guards the file at `path`: by its name, its inode, or as a disk in an indirect lockspace. */
function isLockOf(path: ByteString): (resource: Resource) => boolean {
  const key = inodeOf(path);
  // Loaded only here: a start of the daemon must not wait for it.
  const { createHash } = process.getBuiltinModule('node:crypto');
  const hash = createHash('sha256').update(Buffer.from(path, 'latin1')).digest('hex');
  return (resource) =>
    resource.path === path ||
    (key !== null && resource.file.key === key) ||
    (resource.name === hash && resource.lockspace.directory !== '');
}

function lockEntry(resource: Resource, file: number, firstHold: number, holds: HoldInfo[]): LockInfo {
  const { lockspace, name, path, flags } = resource;
  const [device = '0', high = '', low = '0'] = resource.file.key.split(':');
  return {
    lockspace: lockspace.directory,
    name,
    path,
    flags,
    descriptor: resource.file.fd,
    device: Number(device),
    inode: high === '' ? BigInt(low) : (BigInt(high) << 32n) + BigInt(low),
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
  if (posix.fstatInode(file.fd, inode) !== 0 || inodeKey(inode) !== file.key) return FileState.BROKEN;
  const status = posix.statInode(path, inode);
  if (status === 0) return inodeKey(inode) === file.key ? FileState.SAME : FileState.REPLACED;
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
  if (type === DIRECTORY) return FileState.SAME;
  if (type >= 0) return FileState.REPLACED;
  return type === -ENOENT || type === -ENOTDIR ? FileState.GONE : FileState.UNREADABLE;
}
