/** Values of callers as the wire has them, and texts from the wire. */
import type { ByteString } from '../../xdr/codec.ts';
import { LOCK_STRING_MAX, type Owner } from '../../xdr/programs/lock.ts';

/** A name or path: text, sent as UTF-8, or bytes of any encoding. It must not hold a NUL. */
export type Name = string | Uint8Array;

/** An owner of locks: a guest. */
export interface OwnerDetails {
  /** 32 hexadecimal digits, with the four usual hyphens or without, or 16 bytes. */
  readonly uuid: string | Uint8Array;
  readonly name: Name;
  /** Its id within libvirtd, above 0: the daemon takes 0 for "not registered". */
  readonly id: number;
  /** Of the guest's QEMU, which the daemon kills if its connection ends while it holds locks. */
  readonly pid: number;
}

/**
 * A name as bytes.
 * @throws TypeError when it has a NUL: the daemon would cut the name off there
 * @throws RangeError when it has more than `limit` bytes
 */
export function nameBytes(name: Name, what: string, limit = LOCK_STRING_MAX): ByteString {
  const bytes = (
    typeof name === 'string' ? Buffer.from(name) : Buffer.from(name.buffer, name.byteOffset, name.length)
  ).toString('latin1');
  if (bytes.includes('\0')) throw new TypeError(`${what} has a NUL in it`);
  if (bytes.length > limit) throw new RangeError(`${what} has ${bytes.length} bytes; at most ${limit} are allowed`);
  return bytes;
}

/** Bytes from the wire as text. Bytes that are not UTF-8 become U+FFFD. */
export function textOf(bytes: ByteString): string {
  return Buffer.from(bytes, 'latin1').toString();
}

/** The 16 bytes of a UUID. @throws TypeError when it is none */
function uuidBytes(uuid: string | Uint8Array): Buffer {
  if (typeof uuid === 'string') {
    if (!/^[0-9a-f]{8}(-?)(?:[0-9a-f]{4}\1){3}[0-9a-f]{12}$/i.test(uuid)) throw new TypeError(`'${uuid}' is no UUID`);
    return Buffer.from(uuid.replaceAll('-', ''), 'hex');
  }
  if (uuid.length !== 16) throw new TypeError(`a UUID has 16 bytes, not ${uuid.length}`);
  return Buffer.from(uuid);
}

/** A number of 32 bits. @throws RangeError */
export function word(value: number, what: string): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff)
    throw new RangeError(`${what} must be an integer from 0 to 4294967295, not ${value}`);
  return value;
}

/** An owner for the wire. @throws TypeError, RangeError */
export function ownerOf({ uuid, name, id, pid }: OwnerDetails): Owner {
  return {
    uuid: uuidBytes(uuid),
    name: nameBytes(name, "the owner's name"),
    id: word(id, "the owner's id"),
    pid: word(pid, "the owner's pid"),
  };
}
