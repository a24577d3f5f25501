/** Splits the bytes of one direction into messages. Accepts any bytes. */
import {
  DESCRIPTORS_MAX,
  HEADER_SIZE,
  isLengthValid,
  LENGTH_SIZE,
  MESSAGE_MIN,
  MessageType,
} from '../../../xdr/frame.ts';

export type Piece =
  /** A whole message, with its length word. */
  | { readonly kind: 'message'; readonly bytes: Buffer }
  /** The byte that carries an announced descriptor after a message. */
  | { readonly kind: 'carrier'; readonly bytes: Buffer }
  /** Bytes that are no message. All that follow are broken, too. */
  | { readonly kind: 'broken'; readonly bytes: Buffer; readonly reason: string };

/** After an invalid length, the start of the next message is unknown. */
const LOST = 'after an invalid length';

export class MessageStream {
  private held: Buffer[] = [];
  private size = 0;
  /** Of the current message; 0 until its first word is complete. */
  private length = 0;
  private carriers = 0;
  private isBroken = false;

  /** The number of bytes that complete the next piece: first a message's header, then the rest of the message. */
  get wanted(): number {
    if (this.isBroken) return Infinity;
    if (this.carriers > 0) return 1;
    return (this.length === 0 || this.size < MESSAGE_MIN ? MESSAGE_MIN : this.length) - this.size;
  }

  /** The bytes of an incomplete message. */
  get rest(): Buffer {
    return Buffer.concat(this.held, this.size);
  }

  /** Yields the pieces that these bytes complete. */
  *push(chunk: Buffer): Generator<Piece> {
    if (chunk.length > 0 && this.isBroken) {
      yield { kind: 'broken', bytes: Buffer.from(chunk), reason: LOST };
      return;
    }
    let at = 0;
    while (at < chunk.length) {
      if (this.carriers > 0) {
        this.carriers--;
        yield { kind: 'carrier', bytes: Buffer.from(chunk.subarray(at, ++at)) };
        continue;
      }
      const goal = this.length === 0 ? LENGTH_SIZE : this.length;
      const part = chunk.subarray(at, at + goal - this.size);
      this.held.push(Buffer.from(part));
      this.size += part.length;
      at += part.length;
      if (this.size < goal) return;
      if (this.length === 0) {
        const bytes = this.rest;
        const length = bytes.readUInt32BE(0);
        if (!isLengthValid(length)) {
          this.isBroken = true;
          this.forget();
          const reason = `invalid length ${length}, at byte 0 of a message`;
          yield { kind: 'broken', bytes: Buffer.concat([bytes, chunk.subarray(at)]), reason };
          return;
        }
        this.length = length;
        continue;
      }
      const bytes = this.rest;
      this.forget();
      this.carriers = announced(bytes);
      yield { kind: 'message', bytes };
    }
  }

  /** Pushes bytes, and drops the pieces. */
  skip(chunk: Buffer): void {
    const pieces = this.push(chunk);
    while (pieces.next().done !== true);
  }

  private forget(): void {
    this.held = [];
    this.size = 0;
    this.length = 0;
  }
}

/** The number of descriptors that follow a message. */
function announced(message: Buffer): number {
  const type = message.readInt32BE(LENGTH_SIZE + 12);
  if (type !== MessageType.CALL_WITH_FDS && type !== MessageType.REPLY_WITH_FDS) return 0;
  const at = LENGTH_SIZE + HEADER_SIZE;
  const count = message.length < at + 4 ? 0 : message.readUInt32BE(at);
  return count > DESCRIPTORS_MAX ? 0 : count;
}
