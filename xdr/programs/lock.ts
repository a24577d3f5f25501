/** The lock program, which libvirt's lockd plugin speaks on virtlockd-sock. */
import { noFlags, procedure, type Program } from '../program.ts';
import { opaque, string, struct, u32, type ValueOf } from '../schema.ts';

/** The most bytes in any string of this program. */
export const LOCK_STRING_MAX = 65536;

/** Flags of ACQUIRE_RESOURCE. */
export const AcquireFlag = { SHARED: 1, AUTOCREATE: 2 } as const;

const text = string(LOCK_STRING_MAX);

/** An owner of locks: the guest's UUID, its name, its id within libvirtd, and the pid of its process. */
export const owner = struct('owner', { uuid: opaque(16), name: text, id: u32, pid: u32 });
export type Owner = ValueOf<typeof owner>;

const resourceArgs = struct('resource_args', { path: text, name: text, flags: u32 });

export const lockProcedures = {
  register: procedure(1, {
    doc: 'Names the owner on whose behalf this connection calls. A second call replaces the first.',
    args: struct('register_args', { owner, flags: u32 }),
    flags: noFlags('virLockSpaceProtocolDispatchRegister'),
  }),
  restrict: procedure(2, {
    doc: 'Refuses every further call on this connection.',
    args: struct('restrict_args', { flags: u32 }),
    flags: noFlags('virLockSpaceProtocolDispatchRestrict'),
  }),
  newLockspace: procedure(3, {
    doc: 'Makes a lockspace; an error if it exists.',
    args: struct('new_args', { path: text, flags: u32 }),
    flags: noFlags('virLockSpaceProtocolDispatchNew'),
  }),
  createResource: procedure(4, {
    doc: "Makes a resource's file, empty, mode 0600.",
    args: resourceArgs,
    flags: noFlags('virLockSpaceProtocolDispatchCreateResource'),
  }),
  deleteResource: procedure(5, {
    doc: "Unlinks a resource's file.",
    args: resourceArgs,
    flags: noFlags('virLockSpaceProtocolDispatchDeleteResource'),
  }),
  acquireResource: procedure(6, {
    doc: 'Locks a resource for the registered owner. Flags: SHARED 1, AUTOCREATE 2.',
    args: resourceArgs,
    flags: {
      allowed: AcquireFlag.SHARED | AcquireFlag.AUTOCREATE,
      reportedAs: 'virLockSpaceProtocolDispatchAcquireResource',
    },
  }),
  releaseResource: procedure(7, {
    doc: "Gives up one of the registered owner's holds on a resource.",
    args: resourceArgs,
    flags: noFlags('virLockSpaceProtocolDispatchReleaseResource'),
  }),
  createLockspace: procedure(8, {
    doc: 'Makes a lockspace unless it exists already.',
    args: struct('create_lockspace_args', { path: text }),
  }),
} as const;

export const lockProgram: Program<typeof lockProcedures> = {
  name: 'lock',
  number: 0x0ea7beef,
  version: 1,
  doc: 'Lockspaces, resources and their owners.',
  procedures: lockProcedures,
};
