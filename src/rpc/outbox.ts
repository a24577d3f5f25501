/**
 * Replies on their way. Those of one round of the poller are sent a few at a time: one native call for all, and a client
 * process with many connections is woken once and not for each. When the round is over nothing is left in here.
 */
import { XdrWriter } from '../../xdr/codec.ts';
import { posix, SendRange } from '../posix/posix.ts';

/** Replies are sent when there are so many, or so many bytes of them: more would keep the first one waiting. */
const REPLIES = 4;
const BYTES = 64 * 1024;

/** Whose replies they are. */
export interface Sender {
  readonly fd: number;
  /** Of the bytes, only the first `sent` (or none: -errno) were taken. */
  onUnsent(bytes: Buffer, sent: number): void;
}

const senders: Sender[] = [];
const ranges = new Int32Array(REPLIES * SendRange.WORDS);
let count = 0;
/** Where in the writer the queued bytes end; what is behind is being written. */
let queued = 0;

/** Where replies are written. */
const writer = new XdrWriter(BYTES * 2);

export const outbox = {
  writer,

  /** What has been written since the last call is for `sender`. Returns whether replies have just been sent. */
  queue(sender: Sender): boolean {
    const start = queued;
    queued = writer.length;
    if (queued > start) {
      if (count === 0 || senders[count - 1] !== sender) {
        ranges[count * SendRange.WORDS] = sender.fd;
        ranges[count * SendRange.WORDS + 1] = start;
        senders[count++] = sender;
      }
      ranges[count * SendRange.WORDS - 1] = queued;
    }
    if (count < REPLIES && queued < BYTES) return false;
    outbox.send();
    return true;
  },

  /** Drops what has been written since the last {@link queue}: its connection is gone. */
  discard(): void {
    writer.length = queued;
  },

  /** Sends all that is queued. */
  send(): void {
    if (count === 0) return;
    const sent = count;
    const failed = posix.sendAll(writer.buffer, ranges, sent);
    const { buffer } = writer;
    count = 0;
    // A connection may be closed while another one's reply is being written.
    if (writer.length === queued) writer.length = queued = 0;
    if (failed === 0) return;
    for (let i = 0, at = 0; i < sent; i++, at += SendRange.WORDS) {
      const [taken = 0, start = 0, end = 0] = ranges.subarray(at, at + SendRange.WORDS);
      if (taken !== end - start) senders[i]?.onUnsent(buffer.subarray(start, end), taken);
    }
  },
};
