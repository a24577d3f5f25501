/** State of resources and holds that outlives a restart. */
import {
  boolean,
  descriptor,
  type Kind,
  list,
  maybeDescriptor,
  object,
  optional,
  startTime,
  type StateOf,
  text,
  u32,
  uuid,
  type Whole,
  whole,
  word,
} from '../state/state.ts';
import { descriptorsOfReferences, type HeldFile, type KeptLock } from './files.ts';
import type { Resource } from './lockspaces.ts';
import type { Hold } from './owner.ts';

/** See LockLoss. */
const lockLoss = object({ found: whole, confirmed: whole, regained: whole, taken: boolean, pid: whole });

/** One hold, in the order of `owners`: all but the pid. */
export const hold = object({
  id: u32,
  name: text,
  uuid,
  /** Milliseconds since 1970. */
  since: whole,
  /** The connection it was acquired through. */
  client: whole,
  /** When the owner's process started: see OwnerIdentity. */
  start: optional(startTime),
  /** The owner's pid is of another pid namespace. */
  foreign: optional(boolean),
  /** Its owner is being ended: the id of that end. */
  ending: optional(whole),
  /** See Hold. */
  unanswered: optional(boolean),
});
export type HoldState = StateOf<typeof hold>;

const described = object({
  name: text,
  path: text,
  fd: maybeDescriptor,
  lockHeld: boolean,
  flags: u32,
  owners: list(u32),
  'x-holds': optional(list(hold)),
  /** The inode key of the descriptor. */
  'x-inode': optional(text),
  /** How it is locked; absent: by a whole POSIX lock. */
  'x-lock': optional(word<KeptLock>('ofd', 'ofd-degraded', 'posix-degraded')),
  /** A storage helper has the file: the helper's id, its number for the file, and the number of its block device or 0, if that is known. */
  'x-storage': optional(list(whole)),
  /** The file is being released, for the owner with this pid; 0: for none. */
  'x-releasing': optional(u32),
  /** An engine keeps the lock: its key, revision and lease. */
  'x-etcd': optional(object({ key: text, revision: text, lease: text })),
  /** Its lock was lost while a storage helper had it. */
  'x-lost': optional(lockLoss),
  /** Further descriptors of that inode, which must stay open as well: closing one would drop the lock. */
  'x-spares': optional(list(descriptor)),
});
export type ResourceState = StateOf<typeof described>;

/**
 * Written by JSON.stringify, which takes half the time: there may be a hundred thousand. It writes keys in the value's order, so
 * {@link resourceState} has them in the order of the description.
 */
export const resource: Kind<ResourceState> = { ...described, format: (state) => JSON.stringify(state) };

export function holdState({ owner, since, client, end, unanswered }: Hold): Whole<HoldState> {
  const { id, name, uuid, startTime, isForeign } = owner;
  return { id, name, uuid, since, client, start: startTime, foreign: isForeign, ending: end?.id, unanswered };
}

function storageState({ remote, blockDevice }: HeldFile): number[] | undefined {
  if (remote === null) return undefined;
  // A negative one is not known.
  return [remote.helper, remote.file, ...(blockDevice < 0 ? [] : [blockDevice])];
}

/** A resource without its holds, and without what its file has beside its first descriptor. */
export function bareResourceState({ name, path, file, mode, release }: Resource): Whole<ResourceState> {
  return {
    name,
    path,
    fd: file.fd,
    lockHeld: file.locked,
    flags: mode.flags,
    owners: [],
    'x-holds': undefined,
    'x-inode': file.key,
    'x-lock': file.keptLock,
    'x-storage': storageState(file),
    'x-releasing': release?.by,
    'x-etcd': file.engineState,
    'x-lost': file.loss ?? undefined,
    'x-spares': undefined,
  };
}

/** @param described of files of which a resource has been described already, the descriptors of the others that hold them */
export function resourceState(
  resource: Resource,
  described: Map<HeldFile, Iterator<number, never>>,
): Whole<ResourceState> {
  const { file, holds } = resource;
  const known = described.get(file);
  const descriptors = known ?? descriptorsOfReferences(file);
  if (known === undefined && file.references > 1) described.set(file, descriptors);
  return {
    ...bareResourceState(resource),
    fd: descriptors.next().value,
    owners: holds.map(({ owner }) => owner.pid),
    'x-holds': holds.map(holdState),
    // Once for all that hold the file.
    'x-spares': known !== undefined || file.deferredFds.size === 0 ? undefined : [...file.deferredFds],
  };
}
