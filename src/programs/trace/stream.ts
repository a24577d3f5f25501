/** Cuts what one side of a connection sends into messages, whatever it is, and never fails. */
import { HEADER_SIZE, isLengthValid, LENGTH_SIZE, MESSAGE_MIN, MessageType } from '../../../xdr/frame.ts';
import { MAX_ANNOUNCED } from './programs.ts';

export type Piece =
  /** A whole message, its length word included. */
  | { readonly kind: 'message'; readonly bytes: Buffer }
  /** The data byte that carries a descriptor behind a message that announced it. */
  | { readonly kind: 'carrier'; readonly bytes: Buffer }
  /** Bytes that are no message. All that follows is as they are. */
  | { readonly kind: 'broken'; readonly bytes: Buffer; readonly reason: string };

/** Behind a length that cannot be, nobody knows where the next message begins. */
const LOST = 'behind a length that cannot be';

export class MessageStream {
  private held: Buffer[] = [];
  private size = 0;
  /** Of the message that is coming; 0 while its first word is not there. */
  private length = 0;
  private carriers = 0;
  private isBroken = false;

  /** How many bytes bring the next piece to its end, as far as is known: a message's header first, then the rest. */
  get wanted(): number {
    if (this.isBroken) return Infinity;
    if (this.carriers > 0) return 1;
    return (this.length === 0 || this.size < MESSAGE_MIN ? MESSAGE_MIN : this.length) - this.size;
  }

  /** What is there of a message that has not ended. */
  get rest(): Buffer {
    return Buffer.concat(this.held, this.size);
  }

  /** The pieces that end with these bytes. */
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
          const reason = `a length of ${length}, at byte 0 of a message`;
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

  /** Takes bytes of which only the boundaries matter. */
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

/** How many descriptors come behind a message. */
function announced(message: Buffer): number {
  const type = message.readInt32BE(LENGTH_SIZE + 12);
  if (type !== MessageType.CALL_WITH_FDS && type !== MessageType.REPLY_WITH_FDS) return 0;
  const at = LENGTH_SIZE + HEADER_SIZE;
  const count = message.length < at + 4 ? 0 : message.readUInt32BE(at);
  return count > MAX_ANNOUNCED ? 0 : count;
}
