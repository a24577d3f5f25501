/** The client's end of a connection to a real daemon. */
import os from 'node:os';
import type { ByteString } from '../../../xdr/codec.ts';
import { client } from './client.ts';
import { encodeCall } from './encode.ts';
import { isEvent } from './model-inquire.ts';
import { pingMessage } from './model-wire.ts';
import type { Call } from './steps.ts';
import type { Link } from './target.ts';

const { EAGAIN } = os.constants.errno;
const into = Buffer.alloc(256 * 1024);
const LENGTH_SIZE = 4;
const PING = pingMessage();

export class SocketLink implements Link {
  readonly client: number;
  private readonly fd: number;
  private readonly patience: number;

  constructor(fd: number, id: number, patience: number) {
    this.fd = fd;
    this.client = id;
    this.patience = patience;
  }

  /** Connects to a socket. `id`: of the client in the daemon. Null when it cannot connect. */
  static open(path: ByteString, id: number, patience: number): SocketLink | null {
    const fd = client.connect(path);
    return fd < 0 ? null : new SocketLink(fd, id, patience);
  }

  send(bytes: Buffer, descriptors: number): void {
    client.send(this.fd, bytes, Array<number>(descriptors).fill(0), this.patience);
  }

  receive(limit: number): Buffer | 'closed' | null {
    const got = client.receive(this.fd, into, 0, limit);
    if (got > 0) return Buffer.from(into.subarray(0, got));
    return got === -EAGAIN ? null : 'closed';
  }

  finish(): void {
    client.finish(this.fd);
  }

  close(): void {
    client.close(this.fd);
  }

  /** Sends calls together and returns their replies, fewer when some do not come. */
  ask(calls: readonly Call[]): Buffer[] {
    return this.exchange(Buffer.concat(calls.map((call) => encodeCall(call, 1, ''))), calls.length);
  }

  /** Whether a ping is answered. */
  ping(): boolean {
    return this.exchange(PING, 1).length === 1;
  }

  private exchange(bytes: Buffer, count: number): Buffer[] {
    this.send(bytes, 0);
    const replies: Buffer[] = [];
    let received: Buffer = Buffer.alloc(0);
    while (replies.length < count) {
      const more = this.receive(this.patience);
      if (!Buffer.isBuffer(more)) break;
      received = received.length === 0 ? more : Buffer.concat([received, more]);
      while (received.length >= LENGTH_SIZE && received.length >= received.readUInt32BE(0)) {
        const length = received.readUInt32BE(0);
        const message = received.subarray(0, length);
        if (!isEvent(message)) replies.push(message);
        received = received.subarray(length);
      }
    }
    return replies;
  }
}
