/** A connection of the daemon's kind at one end of a socket pair, and plain bytes at the other. */
import os from 'node:os';
import { setImmediate as turn } from 'node:timers/promises';
import type { XdrReader, XdrWriter } from '../../../xdr/codec.ts';
import { client } from '../../../src/programs/fuzz/client.ts';
import { posix } from '../../../src/posix/posix.ts';
import { Connection, type ConnectionHost } from '../../../src/rpc/connection.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { poller } from './poller.ts';

const { EAGAIN } = os.constants.errno;

/** Waits for a condition that the event loop brings about. @throws Error when 5 s were not enough */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`in vain: ${what}`);
    await turn();
  }
}

export class Link implements ConnectionHost<undefined> {
  readonly poller = poller;
  readonly maxUsefulMessage: number;
  readonly fd: number;
  readonly connection: Connection<undefined>;
  /** Messages served, each from its length word to its end. */
  readonly served: Buffer[] = [];
  ended = false;
  private arrivals = 0;
  /** What is done for each message; a Waiting that it returns has the call made again. By default nothing is answered. */
  answer: (message: Buffer, out: XdrWriter, connection: Connection<undefined>) => unknown = () => undefined;

  constructor(maxUsefulMessage = 4096, connection?: (link: Link, fd: number) => Connection<undefined>) {
    this.maxUsefulMessage = maxUsefulMessage;
    const pair = new Int32Array(2);
    client.pair(pair);
    const [near = -1, far = -1] = pair;
    posix.setNonblocking(near);
    this.fd = far;
    this.connection =
      connection?.(this, near) ?? new Connection(this, near, 1, { pid: process.pid, uid: 0, gid: 0 }, 1795358400);
  }

  serve(connection: Connection<undefined>, reader: XdrReader, out: XdrWriter): Waiting | null {
    const message = Buffer.from(reader.buffer.subarray(reader.offset, reader.end));
    this.served.push(message);
    const answer = this.answer(message, out, connection);
    return answer instanceof Waiting ? answer : null;
  }

  nextArrival(): number {
    return ++this.arrivals;
  }

  open(): undefined {
    return undefined;
  }

  closed(): void {
    this.ended = true;
  }

  send(bytes: Buffer, descriptors: readonly number[] = []): void {
    const sent = client.send(this.fd, bytes, descriptors, 0);
    if (sent !== bytes.length) throw new Error(`sent ${sent} of ${bytes.length} bytes`);
  }

  /** All that has arrived at the far end; `end` when it is the last. */
  take(): { bytes: Buffer; end: boolean } {
    const parts: Buffer[] = [];
    for (;;) {
      const part = Buffer.alloc(65536);
      const got = client.receive(this.fd, part, 0, 0);
      if (got > 0) parts.push(part.subarray(0, got));
      else return { bytes: Buffer.concat(parts), end: got !== -EAGAIN };
    }
  }

  /** Ends both sides. */
  dispose(): void {
    this.connection.close();
    client.close(this.fd);
  }
}
