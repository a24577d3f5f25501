/** Cuts a stream of bytes into messages. */
import { isLengthValid, LENGTH_SIZE } from '../../xdr/frame.ts';
import { ProtocolError } from './errors.ts';

const INITIAL_SIZE = 64 * 1024;

export class FrameReader {
  private buffer = Buffer.alloc(0);
  private length = 0;

  /**
   * Yields the messages that `chunk` completes, with their length words. They are views that are valid until the next call.
   * @throws ProtocolError when a length is out of range
   */
  *push(chunk: Buffer): Generator<Buffer> {
    let bytes = chunk;
    if (this.length > 0) {
      this.keep(chunk);
      bytes = this.buffer.subarray(0, this.length);
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
      this.buffer.copyWithin(0, at, this.length);
      this.length -= at;
    } else if (at < bytes.length) this.keep(bytes.subarray(at));
  }

  private keep(chunk: Buffer): void {
    const length = this.length + chunk.length;
    if (length > this.buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(INITIAL_SIZE, this.buffer.length * 2, length));
      this.buffer.copy(larger, 0, 0, this.length);
      this.buffer = larger;
    }
    chunk.copy(this.buffer, this.length);
    this.length = length;
  }
}
