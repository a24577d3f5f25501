/** Cuts a stream of bytes into messages. */
import { isLengthValid, LENGTH_SIZE } from '../../xdr/frame.ts';
import { ProtocolError } from './errors.ts';

/** The first buffer for the pieces of a message. */
const INITIAL = 64 * 1024;

export class FrameReader {
  private held = Buffer.alloc(0);
  private length = 0;

  /**
   * Whole messages, their length words included, in what has come so far with `chunk`. They are views that are good until
   * the next call.
   * @throws ProtocolError when a length is out of range
   */
  *push(chunk: Buffer): Generator<Buffer> {
    let bytes = chunk;
    if (this.length > 0) {
      this.hold(chunk);
      bytes = this.held.subarray(0, this.length);
    }
    let at = 0;
    while (bytes.length - at >= LENGTH_SIZE) {
      const size = bytes.readUInt32BE(at);
      if (!isLengthValid(size)) throw new ProtocolError(`a message of ${size} bytes`);
      if (bytes.length - at < size) break;
      yield bytes.subarray(at, at + size);
      at += size;
    }
    if (this.length > 0) {
      this.held.copyWithin(0, at, this.length);
      this.length -= at;
    } else if (at < bytes.length) this.hold(bytes.subarray(at));
  }

  private hold(chunk: Buffer): void {
    const length = this.length + chunk.length;
    if (length > this.held.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(INITIAL, this.held.length * 2, length));
      this.held.copy(larger, 0, 0, this.length);
      this.held = larger;
    }
    chunk.copy(this.held, this.length);
    this.length = length;
  }
}
