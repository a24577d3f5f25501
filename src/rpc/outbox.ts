/**
 * Replies on their way. Those of one round of the poller are sent a few at a time, by one native call: a client process with many
 * connections is then woken once, not for each. The end of the round empties the outbox.
 */
import { XdrWriter } from '../../xdr/codec.ts';
import { posix, SendRange } from '../posix/posix.ts';

/** So many replies, or bytes of them, are sent at once: more would keep the first one waiting. */
const REPLIES = 4;
const BYTES = 64 * 1024;

/** A connection that replies are for. */
export interface Sender {
  readonly fd: number;
  /** The peer took only the first `sent` of the bytes (-errno: none). */
  onUnsent(bytes: Buffer, sent: number): void;
}

export class Outbox {
  /** Where replies are written. */
  readonly writer = new XdrWriter(BYTES * 2);
  private readonly senders: Sender[] = [];
  private readonly ranges = new Int32Array(REPLIES * SendRange.WORDS);
  private count = 0;
  /** Where in the writer the queued bytes end. Behind them is the reply that is being written. */
  private queued = 0;

  /** Queues the bytes written since the last call for `sender`. Returns whether it has just sent the queue. */
  queue(sender: Sender): boolean {
    const { writer, senders, ranges } = this;
    const start = this.queued;
    const end = (this.queued = writer.length);
    if (end > start) {
      if (this.count === 0 || senders[this.count - 1] !== sender) {
        ranges[this.count * SendRange.WORDS] = sender.fd;
        ranges[this.count * SendRange.WORDS + 1] = start;
        senders[this.count++] = sender;
      }
      ranges[this.count * SendRange.WORDS - 1] = end;
    }
    if (this.count < REPLIES && end < BYTES) return false;
    this.send();
    return true;
  }

  /** Whether replies for `sender` are queued. Only valid for the sender that was served last. */
  hasQueued(sender: Sender): boolean {
    return this.count > 0 && this.senders[this.count - 1] === sender;
  }

  /** Takes back the bytes written since the last {@link queue}. */
  take(): Buffer {
    const bytes = Buffer.from(this.writer.buffer.subarray(this.queued, this.writer.length));
    this.discard();
    return bytes;
  }

  /** Drops the bytes written since the last {@link queue}: their connection is gone. */
  discard(): void {
    this.writer.length = this.queued;
  }

  send(): void {
    const { writer, senders, ranges, count } = this;
    if (count === 0) return;
    const failed = posix.sendAll(writer.buffer, ranges, count);
    const { buffer } = writer;
    this.count = 0;
    // A connection may be closed while another one's reply is being written.
    if (writer.length === this.queued) writer.length = this.queued = 0;
    if (failed === 0) return;
    const unsent: (readonly [Sender | undefined, Buffer, number])[] = [];
    for (let i = 0, at = 0; i < count; i++, at += SendRange.WORDS) {
      const [sent = 0, start = 0, end = 0] = ranges.subarray(at, at + SendRange.WORDS);
      if (sent !== end - start) unsent.push([senders[i], Buffer.from(buffer.subarray(start, end)), sent]);
    }
    // Copied before: the end of a connection may have others served, whose replies are queued here.
    for (const [sender, bytes, sent] of unsent) sender?.onUnsent(bytes, sent);
  }
}
