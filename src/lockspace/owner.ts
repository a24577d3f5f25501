/** Who holds what. */
import type { ByteString } from '../../xdr/codec.ts';

/** An owner as it registered: a guest's process. Shared by everything that it holds. */
export interface OwnerIdentity {
  readonly pid: number;
  readonly id: number;
  readonly name: ByteString;
  /** 16 bytes as 32 hexadecimal digits in groups of 8-4-4-4-12. */
  readonly uuid: string;
}

/** One hold of an owner on a resource. An owner that shares a resource may have several. */
export interface Hold {
  readonly owner: OwnerIdentity;
  /** Milliseconds since 1970; 0 when it was taken over from a daemon that did not say. */
  readonly since: number;
  /** Id of the connection it was acquired through; 0 when unknown. */
  readonly client: number;
}

/** The identity of an owner of whom only the pid is known, as a C daemon's state document leaves it. */
export function unknownOwner(pid: number): OwnerIdentity {
  return { pid, id: 0, name: '', uuid: NIL_UUID };
}

export const NIL_UUID = '00000000-0000-0000-0000-000000000000';
