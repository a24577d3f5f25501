/** A lock daemon that grants or refuses on demand and records every byte from its clients. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { decode, encode, type Message, text, u32 } from '../../src/lab/wire.ts';

/** An error reply's payload, as the C daemon makes it. */
export function refusal(code: number, message: string): Buffer {
  const absent = u32(0);
  return Buffer.concat([
    ...[u32(code), u32(51), u32(1), text(message), u32(2), absent, absent, absent, absent],
    ...[u32(0xffffffff), u32(0xffffffff), absent],
  ]);
}

/** The payload of an error reply to that call; undefined to grant it; null to leave it unanswered. */
export type Judge = (call: Message) => Buffer | undefined | null;

export class FakeDaemon {
  /** The bytes of each connection, in the order of the connections. */
  readonly said: Buffer[] = [];
  judge: Judge = () => undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor() {
    this.#server = createServer((socket) => {
      this.#listen(socket);
    });
  }

  static async listen(path: string): Promise<FakeDaemon> {
    const daemon = new FakeDaemon();
    daemon.#server.listen(path);
    await once(daemon.#server, 'listening');
    return daemon;
  }

  /** How many connections are open. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Ends every connection that is open now. */
  disconnect(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.disconnect();
    await closed;
  }

  #listen(socket: Socket): void {
    const place = this.said.push(Buffer.alloc(0)) - 1;
    let pending = Buffer.alloc(0);
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('data', (data) => {
      this.said[place] = Buffer.concat([this.said[place] ?? Buffer.alloc(0), data]);
      pending = Buffer.concat([pending, data]);
      while (pending.length >= 4 && pending.length >= pending.readUInt32BE(0)) {
        const length = pending.readUInt32BE(0);
        this.#answer(socket, decode(pending.subarray(4, length)));
        pending = pending.subarray(length);
      }
    });
  }

  #answer(socket: Socket, call: Message): void {
    const payload = this.judge(call);
    if (payload === null) return;
    socket.write(
      encode({ ...call, type: 1, status: payload === undefined ? 0 : 1, payload: payload ?? Buffer.alloc(0) }),
    );
  }
}
