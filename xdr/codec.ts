/**
 * XDR (RFC 4506) primitives: a bounded reader and a growing writer over big-endian bytes.
 *
 * Strings stay bytes. libvirt checks no encoding, so a name may hold any byte but NUL. A {@link ByteString} has one byte per UTF-16
 * unit (latin1): that keeps every byte, compares and hashes fast, and takes V8 one byte each.
 */

import { RecentStrings } from './recent-strings.ts';

/** A string in which every code unit is one byte (0 to 255) of the wire. */
export type ByteString = string;

/** The bytes do not fit their description: they end early, or a length exceeds its limit. */
export class XdrError extends Error {
  override name = 'XdrError';
}

const recent = new RecentStrings();

/** A DataView over the same bytes: V8 inlines its 32-bit accessors, but not a Buffer's. */
function viewOf({ buffer, byteOffset, byteLength }: Buffer): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** Reads XDR values from part of a buffer. Never reads past `end`, and never allocates more than that holds. */
export class XdrReader {
  offset: number;
  end: number;
  private bytes: Buffer;
  private view: DataView;

  constructor(buffer: Buffer, offset = 0, end = buffer.length) {
    this.bytes = buffer;
    this.view = viewOf(buffer);
    this.offset = offset;
    this.end = end;
  }

  get buffer(): Buffer {
    return this.bytes;
  }

  /** Moves to other bytes, so that one reader serves all connections. */
  reset(buffer: Buffer, offset: number, end: number): void {
    if (buffer !== this.bytes) {
      this.bytes = buffer;
      this.view = viewOf(buffer);
    }
    this.offset = offset;
    this.end = end;
  }

  get remaining(): number {
    return this.end - this.offset;
  }

  /** Claims `length` bytes and returns where they start. */
  private take(length: number): number {
    const start = this.offset;
    if (length > this.end - start) {
      throw new XdrError(`${length} bytes wanted at offset ${start}, ${this.end - start} left`);
    }
    this.offset = start + length;
    return start;
  }

  u32(): number {
    return this.view.getUint32(this.take(4));
  }

  i32(): number {
    return this.view.getInt32(this.take(4));
  }

  u64(): bigint {
    return this.bytes.readBigUInt64BE(this.take(8));
  }

  i64(): bigint {
    return this.bytes.readBigInt64BE(this.take(8));
  }

  double(): number {
    return this.bytes.readDoubleBE(this.take(8));
  }

  /** A copy of fixed-length opaque data. Skips its padding, whatever that holds. */
  opaque(length: number): Buffer {
    const start = this.take(length + padding(length));
    const bytes = Buffer.allocUnsafe(length);
    this.bytes.copy(bytes, 0, start, start + length);
    return bytes;
  }

  /** A counted string of at most `limit` bytes. An embedded NUL ends it, as in C; the bytes behind it are skipped. */
  string(limit: number): ByteString {
    const length = this.u32();
    if (length > limit) {
      throw new XdrError(`string of ${length} bytes at offset ${this.offset}, limit ${limit}`);
    }
    const start = this.take(length + padding(length));
    const known = recent.find(this.view, start, length);
    if (known !== undefined) return known;
    const whole = this.bytes.toString('latin1', start, start + length);
    const nul = whole.indexOf('\0');
    // Not a slice, which would keep the whole string alive: 64 KiB for a name of ten bytes.
    const text = nul < 0 ? whole : this.bytes.toString('latin1', start, start + nul);
    recent.keep(this.view, start, length, text);
    return text;
  }

  /** A count of items of at least `itemSize` bytes each, refused if the remaining bytes cannot hold so many. */
  count(limit: number, itemSize: number): number {
    const items = this.u32();
    if (items > limit) throw new XdrError(`${items} items at offset ${this.offset}, limit ${limit}`);
    if (items * itemSize > this.remaining) {
      throw new XdrError(`${items} items at offset ${this.offset} cannot fit into ${this.remaining} bytes`);
    }
    return items;
  }
}

/** Appends XDR values to a buffer that grows as needed. */
export class XdrWriter {
  length = 0;
  private memory: Buffer;
  private view: DataView;

  constructor(capacity = 1024) {
    this.memory = Buffer.allocUnsafeSlow(capacity);
    this.view = viewOf(this.memory);
  }

  /** Its first `length` bytes are written. Growing replaces it. */
  get buffer(): Buffer {
    return this.memory;
  }

  /** The written bytes, as a view that the next write may overwrite. */
  bytes(): Buffer {
    return this.memory.subarray(0, this.length);
  }

  /** Claims `length` bytes at the end and returns where they start. */
  private extend(length: number): number {
    const start = this.length;
    const end = start + length;
    if (end > this.memory.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(end, this.memory.length * 2));
      this.memory.copy(larger, 0, 0, start);
      this.memory = larger;
      this.view = viewOf(larger);
    }
    this.length = end;
    return start;
  }

  u32(value: number): void {
    if (value >>> 0 !== value) throw new RangeError(`${value} is not a number from 0 to 2^32 - 1`);
    const start = this.extend(4);
    this.view.setUint32(start, value);
  }

  i32(value: number): void {
    if ((value | 0) !== value) throw new RangeError(`${value} is not a number from -2^31 to 2^31 - 1`);
    const start = this.extend(4);
    this.view.setInt32(start, value);
  }

  u64(value: bigint): void {
    const start = this.extend(8);
    this.memory.writeBigUInt64BE(value, start);
  }

  i64(value: bigint): void {
    const start = this.extend(8);
    this.memory.writeBigInt64BE(value, start);
  }

  double(value: number): void {
    const start = this.extend(8);
    this.memory.writeDoubleBE(value, start);
  }

  opaque(value: Uint8Array): void {
    const start = this.extend(value.length + padding(value.length));
    this.memory.set(value, start);
    for (let at = start + value.length; at < this.length; at++) this.memory[at] = 0;
  }

  string(value: ByteString): void {
    this.u32(value.length);
    const start = this.extend(value.length + padding(value.length));
    this.memory.write(value, start, 'latin1');
    for (let at = start + value.length; at < this.length; at++) this.memory[at] = 0;
  }

  /** Overwrites the word at `offset`: for a length that is known only once the bytes behind it are written. */
  patchU32(offset: number, value: number): void {
    this.view.setUint32(offset, value);
  }
}

/** The zero bytes that bring `length` bytes to a multiple of four. */
export function padding(length: number): number {
  return -length & 3;
}
