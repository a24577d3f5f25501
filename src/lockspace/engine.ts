/**
 * Lockspaces whose locks are not files: an engine keeps them elsewhere. Its resources are in the tables like all others, with a
 * {@link HeldFile} that has neither a descriptor nor an inode. As for files of storage helpers, calls wait by throwing Waiting.
 */
import type { ByteString } from '../../xdr/codec.ts';
import type { Asker } from '../storage/asker.ts';
import type { HeldFile, LockFailure } from './files.ts';
import type { LookElsewhere } from './holder-notes.ts';
import type { Resource } from './lockspaces.ts';
import type { LockMode } from './mode.ts';
import type { Hold } from './owner.ts';

/** A resource by its lockspace's directory and its name. */
export interface ResourceName {
  readonly directory: ByteString;
  readonly name: ByteString;
}

/** Why the engine has not granted a lock. `look`: who has it. */
export interface EngineFailure {
  readonly failure: LockFailure;
  readonly look: LookElsewhere | null;
}

export interface LockEngine {
  /** Whether a lockspace is the engine's. */
  keeps(directory: ByteString): boolean;
  /** Before an owner gets its hold. @throws RpcError when the engine could not vouch for it */
  admit(hold: Hold): void;
  /** @throws Waiting; RpcError when the engine cannot be asked */
  acquire(asker: Asker, resource: ResourceName, mode: LockMode, hold: Hold): HeldFile | EngineFailure;
  /** Makes a resource. Returns 0 or -errno. @throws Waiting, RpcError */
  create(asker: Asker, resource: ResourceName): number;
  /** Removes a resource that nobody holds. Returns 0 or -errno: -EAGAIN when it is held. @throws Waiting, RpcError */
  delete(asker: Asker, resource: ResourceName): number;
  /** Begins to release a resource that nobody holds. False when another resource has the same lock, so that nothing is to be done. */
  release(resource: Resource, by: number): boolean;
  /** Goes on with a release of the previous program or process. */
  expect(resource: Resource): void;
  /** A hold of the resource has come or gone. */
  changed(resource: Resource): void;
}
