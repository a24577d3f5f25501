/**
 * The wire as bytes, written a second time on purpose: it shares nothing with xdr/, so that a test cannot repeat its mistakes.
 */
import { once } from 'node:events';
import { type Socket, createConnection } from 'node:net';

export const lockProgram = 0x0ea7beef;
export const adminProgram = 0x06900690;
export const keepaliveProgram = 0x6b656570;

export interface Message {
  program: number;
  version: number;
  procedure: number;
  /** 0 CALL, 1 REPLY, 2 MESSAGE */
  type: number;
  serial: number;
  /** 0 OK, 1 ERROR */
  status: number;
  payload: Buffer;
}

/** Bytes as given, or a text in UTF-8. */
export type Bytes = string | Uint8Array;

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
  return bytes;
}

/** An XDR string: length, bytes, zeros up to a multiple of four. */
export function text(value: Bytes): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u32(bytes.length), bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

/** An optional string: absent, or a 1 and the string. */
export function optional(value?: Bytes): Buffer {
  return value === undefined ? u32(0) : Buffer.concat([u32(1), text(value)]);
}

/** A whole message with its length word. By default a CALL of the lock program, version 1, serial 1, without payload. */
export function encode(message: Partial<Message>): Buffer {
  const { program = lockProgram, version = 1, procedure = 0, type = 0, serial = 1, status = 0 } = message;
  const payload = message.payload ?? Buffer.alloc(0);
  const words = [28 + payload.length, program, version, procedure, type, serial, status];
  return Buffer.concat([...words.map(u32), payload]);
}

/** A message without its length word. */
export function decode(body: Buffer): Message {
  return {
    program: body.readUInt32BE(0),
    version: body.readUInt32BE(4),
    procedure: body.readInt32BE(8),
    type: body.readInt32BE(12),
    serial: body.readUInt32BE(16),
    status: body.readInt32BE(20),
    payload: body.subarray(24),
  };
}

export interface WireError {
  code: number;
  domain: number;
  message: string | undefined;
  level: number;
  str1: string | undefined;
  str2: string | undefined;
  str3: string | undefined;
  int1: number;
  int2: number;
}

/** The error in a reply's payload; strings are latin1, one character a byte. */
export function decodeError(payload: Buffer): WireError {
  let at = 0;
  const word = (): number => payload.readInt32BE((at += 4) - 4);
  const optional = (): string | undefined => {
    if (word() === 0) return undefined;
    const length = word();
    const value = payload.toString('latin1', at, at + length);
    at += Math.ceil(length / 4) * 4;
    return value;
  };
  const code = word();
  const domain = word();
  const message = optional();
  const level = word();
  if (word() !== 0) throw new Error('the error carries a domain object');
  const [str1, str2, str3] = [optional(), optional(), optional()];
  return { code, domain, message, level, str1, str2, str3, int1: word(), int2: word() };
}

export interface Owner {
  /** Default: the pid */
  id?: number;
  /** The daemon kills this process when its own connection ends with leases held. No process has a pid above 4194304. */
  pid: number;
  name?: Bytes;
  /** 16 bytes */
  uuid?: Uint8Array;
}

/** A call: procedure and payload, to be given to `Peer.call` or `encode`. */
export type Call = Pick<Message, 'procedure' | 'payload'> & Partial<Message>;

const call = (procedure: number, ...parts: readonly Buffer[]): Call => ({ procedure, payload: Buffer.concat(parts) });
const onResource =
  (procedure: number) =>
  (path: Bytes, name: Bytes, flags = 0): Call =>
    call(procedure, text(path), text(name), u32(flags));

export const shared = 1;
export const autocreate = 2;

/** The lock program's calls. `path` is the lockspace: '' is the default one. */
export const lock = {
  register: (owner: Owner, flags = 0): Call =>
    call(
      1,
      Buffer.from(owner.uuid ?? Buffer.alloc(16, owner.pid & 0xff)),
      text(owner.name ?? 'guest'),
      u32(owner.id ?? owner.pid),
      u32(owner.pid),
      u32(flags),
    ),
  restrict: (flags = 0): Call => call(2, u32(flags)),
  newLockspace: (path: Bytes, flags = 0): Call => call(3, text(path), u32(flags)),
  createResource: onResource(4),
  deleteResource: onResource(5),
  acquire: onResource(6),
  release: onResource(7),
  createLockspace: (path: Bytes): Call => call(8, text(path)),
} as const;

/** A connection that makes calls. */
export abstract class Caller {
  /** Sends a call with a serial of its own and returns the reply to it. @throws Error when the connection ends first. */
  abstract call(request: Call): Promise<Message>;

  /** As call, and the error the daemon answered, or undefined for success. */
  async ask(request: Call): Promise<WireError | undefined> {
    const reply = await this.call(request);
    return reply.status === 0 ? undefined : decodeError(reply.payload);
  }

  /** As call. @throws Error with the daemon's message when it refuses. */
  async must(request: Call): Promise<Message> {
    const reply = await this.call(request);
    if (reply.status === 0) return reply;
    throw new Error(`the daemon refused: ${decodeError(reply.payload).message ?? 'no message'}`);
  }
}

/** One end of a connection: sends any bytes, takes whole messages. */
export class Peer extends Caller {
  readonly socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #waiting: (() => void) | undefined;
  #ended = false;
  #serial = 0;

  private constructor(socket: Socket) {
    super();
    this.socket = socket;
    const wake = (): void => {
      this.#waiting?.();
      this.#waiting = undefined;
    };
    socket.on('data', (data: Buffer) => {
      this.#received = this.#received.length === 0 ? data : Buffer.concat([this.#received, data]);
      wake();
    });
    // To a test, a reset is an end: bytes that arrived before it count.
    socket.on('error', () => undefined);
    for (const event of ['end', 'close'] as const) {
      socket.on(event, () => {
        this.#ended = true;
        wake();
      });
    }
  }

  /** @throws the connect's own error (ENOENT, ECONNREFUSED, …) */
  static async connect(path: string): Promise<Peer> {
    const socket = createConnection({ path, allowHalfOpen: true });
    await once(socket, 'connect');
    return new Peer(socket);
  }

  /** The other side has closed; earlier messages can still be read. */
  get ended(): boolean {
    return this.#ended;
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next whole message, or undefined when the connection ended instead. */
  async receive(): Promise<Message | undefined> {
    for (;;) {
      const length = this.#received.length < 4 ? undefined : this.#received.readUInt32BE(0);
      if (length !== undefined && this.#received.length >= length) {
        const message = decode(this.#received.subarray(4, length));
        this.#received = this.#received.subarray(length);
        return message;
      }
      if (this.#ended) return undefined;
      await this.#arrival();
    }
  }

  /** All bytes up to the connection's end, as they came. */
  async drain(): Promise<Buffer> {
    while (!this.#ended) await this.#arrival();
    return this.#received;
  }

  async call(request: Call): Promise<Message> {
    return this.exchange({ ...request, serial: ++this.#serial });
  }

  /** Sends a message and returns the reply, which must have its serial. @throws Error when the connection ends first. */
  async exchange(request: Partial<Message> & { serial: number }): Promise<Message> {
    const { serial } = request;
    this.send(encode(request));
    const reply = await this.receive();
    if (reply === undefined) throw new Error('the connection was closed instead of a reply');
    if (reply.serial !== serial) throw new Error(`the reply has serial ${reply.serial}, not ${serial}`);
    return reply;
  }

  /** Shuts down the sending side only. */
  end(): void {
    this.socket.end();
  }

  /** Closes at once. */
  close(): void {
    this.socket.destroy();
  }

  async #arrival(): Promise<void> {
    await new Promise<void>((resolve) => (this.#waiting = resolve));
  }
}
