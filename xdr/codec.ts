/**
 * XDR (RFC 4506) primitives: a bounded reader and a growing writer over big-endian bytes.
 *
 * Strings stay bytes. libvirt checks no encoding, so a name may hold any byte but NUL; a {@link ByteString} carries
 * one byte per UTF-16 unit (latin1), which keeps every byte, compares and hashes fast, and costs V8 one byte each.
 */

/** A string in which every code unit is one byte (0 to 255) as it was on the wire. */
export type ByteString = string;

/** The bytes do not hold what the description asks for: they end early, or a length exceeds its limit. */
export class XdrError extends Error {
  override name = 'XdrError';
}

/** Reads XDR values from part of a buffer. It never reads past `end`, and never allocates more than it has seen. */
export class XdrReader {
  buffer: Buffer;
  offset: number;
  end: number;

  constructor(buffer: Buffer, offset = 0, end = buffer.length) {
    this.buffer = buffer;
    this.offset = offset;
    this.end = end;
  }

  /** Points the reader at other bytes, so that one reader serves a whole connection. */
  reset(buffer: Buffer, offset: number, end: number): void {
    this.buffer = buffer;
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
    return this.buffer.readUInt32BE(this.take(4));
  }

  i32(): number {
    return this.buffer.readInt32BE(this.take(4));
  }

  u64(): bigint {
    return this.buffer.readBigUInt64BE(this.take(8));
  }

  i64(): bigint {
    return this.buffer.readBigInt64BE(this.take(8));
  }

  double(): number {
    return this.buffer.readDoubleBE(this.take(8));
  }

  /** Fixed-length opaque data, copied, with its padding (whose content is not checked) skipped. */
  opaque(length: number): Buffer {
    const start = this.take(length + padding(length));
    const bytes = Buffer.allocUnsafe(length);
    this.buffer.copy(bytes, 0, start, start + length);
    return bytes;
  }

  /**
   * A counted string of at most `limit` bytes. An embedded NUL ends it, as it does in C; the bytes behind the NUL are
   * consumed all the same.
   */
  string(limit: number): ByteString {
    const length = this.u32();
    if (length > limit) {
      throw new XdrError(`string of ${length} bytes at offset ${this.offset}, limit ${limit}`);
    }
    const start = this.take(length + padding(length));
    const text = this.buffer.toString('latin1', start, start + length);
    const nul = text.indexOf('\0');
    return nul < 0 ? text : text.slice(0, nul);
  }

  /** A count of items that each take at least `itemSize` bytes, refused when that many cannot be there. */
  count(limit: number, itemSize: number): number {
    const items = this.u32();
    if (items > limit) throw new XdrError(`${items} items at offset ${this.offset}, limit ${limit}`);
    if (items * itemSize > this.remaining) {
      throw new XdrError(`${items} items at offset ${this.offset} cannot fit into ${this.remaining} bytes`);
    }
    return items;
  }
}

/** Appends XDR values to a buffer that grows as needed; `bytes()` shows what was written. */
export class XdrWriter {
  buffer: Buffer;
  length = 0;

  constructor(capacity = 1024) {
    this.buffer = Buffer.allocUnsafeSlow(capacity);
  }

  /** What has been written, as a view that the next write may overwrite. */
  bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  /** Claims `length` bytes at the end and returns where they start. */
  private extend(length: number): number {
    const start = this.length;
    const end = start + length;
    if (end > this.buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(end, this.buffer.length * 2));
      this.buffer.copy(larger, 0, 0, start);
      this.buffer = larger;
    }
    this.length = end;
    return start;
  }

  u32(value: number): void {
    const start = this.extend(4);
    this.buffer.writeUInt32BE(value, start);
  }

  i32(value: number): void {
    const start = this.extend(4);
    this.buffer.writeInt32BE(value, start);
  }

  u64(value: bigint): void {
    const start = this.extend(8);
    this.buffer.writeBigUInt64BE(value, start);
  }

  i64(value: bigint): void {
    const start = this.extend(8);
    this.buffer.writeBigInt64BE(value, start);
  }

  double(value: number): void {
    const start = this.extend(8);
    this.buffer.writeDoubleBE(value, start);
  }

  opaque(value: Uint8Array): void {
    const start = this.extend(value.length + padding(value.length));
    this.buffer.set(value, start);
    for (let at = start + value.length; at < this.length; at++) this.buffer[at] = 0;
  }

  string(value: ByteString): void {
    this.u32(value.length);
    const start = this.extend(value.length + padding(value.length));
    this.buffer.write(value, start, 'latin1');
    for (let at = start + value.length; at < this.length; at++) this.buffer[at] = 0;
  }

  /** Overwrites the word at `offset`: for a length that is known only once all behind it is written. */
  patchU32(offset: number, value: number): void {
    this.buffer.writeUInt32BE(value, offset);
  }
}

/** The zero bytes that bring `length` bytes to a multiple of four. */
export function padding(length: number): number {
  return -length & 3;
}
