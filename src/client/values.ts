/** What callers may write for names and UUIDs, brought to the bytes that the wire has. */
import type { ByteString } from '../../xdr/codec.ts';
import { LOCK_STRING_MAX, type Owner } from '../../xdr/programs/lock.ts';

/** A name or path: text, sent as UTF-8, or bytes of any encoding. It must not hold a NUL. */
export type Name = string | Uint8Array;

/** Who holds locks: a guest. */
export interface OwnerDetails {
  /** 36 or 32 hexadecimal characters, or 16 bytes. */
  readonly uuid: string | Uint8Array;
  /** The guest's name. */
  readonly name: Name;
  /** Its id within libvirtd, above 0: the daemon takes 0 for "not registered". */
  readonly id: number;
  /** The process that must end before anybody else may write: the guest's QEMU. */
  readonly pid: number;
}

/**
 * A name as bytes.
 * @throws TypeError when there is a NUL in it: the daemon would take what stands before it for the whole
 * @throws RangeError when it has more than `limit` bytes
 */
export function nameBytes(name: Name, what: string, limit = LOCK_STRING_MAX): ByteString {
  const bytes = (
    typeof name === 'string' ? Buffer.from(name) : Buffer.from(name.buffer, name.byteOffset, name.length)
  ).toString('latin1');
  if (bytes.includes('\0')) throw new TypeError(`${what} has a NUL in it`);
  if (bytes.length > limit) throw new RangeError(`${what} has ${bytes.length} bytes, of which ${limit} are allowed`);
  return bytes;
}

/** Bytes from the wire as text; what is no UTF-8 becomes U+FFFD. */
export function textOf(bytes: ByteString): string {
  return Buffer.from(bytes, 'latin1').toString();
}

/** The 16 bytes of a UUID. @throws TypeError when it is none */
export function uuidBytes(uuid: string | Uint8Array): Buffer {
  if (typeof uuid === 'string') {
    if (!/^[0-9a-f]{8}(-?)(?:[0-9a-f]{4}\1){3}[0-9a-f]{12}$/i.test(uuid)) throw new TypeError(`'${uuid}' is no UUID`);
    return Buffer.from(uuid.replaceAll('-', ''), 'hex');
  }
  if (uuid.length !== 16) throw new TypeError(`a UUID of ${uuid.length} bytes`);
  return Buffer.from(uuid);
}

/** A number that fits into 32 bits. @throws RangeError */
export function word(value: number, what: string): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) throw new RangeError(`${what} is ${value}`);
  return value;
}

/** An owner as the wire has it. @throws TypeError, RangeError */
export function ownerOf({ uuid, name, id, pid }: OwnerDetails): Owner {
  return {
    uuid: uuidBytes(uuid),
    name: nameBytes(name, "the owner's name"),
    id: word(id, "the owner's id"),
    pid: word(pid, "the owner's pid"),
  };
}
