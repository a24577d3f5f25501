/** A connection of an exchange, of this process or of an actor. */
import type { Actor, Received } from './actor.ts';
import { patient } from '../../../lab/patience.ts';
import { eventually } from '../../../lab/process.ts';
import { type Socket, createConnection } from 'node:net';
import { once } from 'node:events';

export interface Connection {
  send(bytes: Buffer, descriptors: number): Promise<void>;
  /** Waits for so many whole messages or the end of the connection, for a while. */
  arrived(messages: number): Promise<void>;
  /** The bytes since the last call; does not wait. */
  receive(): Promise<Received>;
  halfClose(): Promise<void>;
  close(): Promise<void>;
  /** Its process is gone. */
  readonly lost: boolean;
}

/** How long messages are waited for, in ms. */
const ARRIVAL_MS = 5000;

function wholeMessages(bytes: Buffer): number {
  let count = 0;
  for (let at = 0; at + 4 <= bytes.length; count++) {
    const length = bytes.readUInt32BE(at);
    if (length < 4 || at + length > bytes.length) break;
    at += length;
  }
  return count;
}

/** A connection of this process. */
export class PeerConnection implements Connection {
  readonly lost = false;
  readonly #socket: Socket;
  #received: Buffer[] = [];
  #closed = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (data: Buffer) => {
      this.#received.push(data);
      this.#wake();
    });
    // A reset only means that the daemon had not read everything; to a client it is an end.
    for (const event of ['error', 'end', 'close']) {
      socket.on(event, () => {
        this.#closed = true;
        this.#wake();
      });
    }
  }

  static async open(path: string): Promise<PeerConnection> {
    const socket = createConnection({ path, allowHalfOpen: true });
    await once(socket, 'connect');
    return new PeerConnection(socket);
  }

  async send(bytes: Buffer): Promise<void> {
    if (this.#closed) return;
    // Bytes that the daemon does not read never drain, but are written.
    await new Promise<void>((resolve) => {
      if (this.#socket.write(bytes, () => resolve())) resolve();
      else this.#socket.once('close', resolve);
    });
  }

  async arrived(messages: number): Promise<void> {
    const late = AbortSignal.timeout(patient(ARRIVAL_MS));
    const timer = setTimeout(() => this.#wake(), patient(ARRIVAL_MS) + 10);
    while (!late.aborted && !this.#closed && wholeMessages(Buffer.concat(this.#received)) < messages) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    clearTimeout(timer);
  }

  receive(): Promise<Received> {
    const bytes = Buffer.concat(this.#received);
    this.#received = [];
    return Promise.resolve({ bytes, closed: this.#closed });
  }

  async halfClose(): Promise<void> {
    this.#socket.end();
    // The daemon answers everything that was sent before, and then closes.
    await this.arrived(Infinity);
  }

  close(): Promise<void> {
    this.#socket.destroy();
    return Promise.resolve();
  }
}

/** A connection of an actor. */
export class ActorConnection implements Connection {
  readonly #actor: Actor;
  readonly #name: string;
  #received: Received = { bytes: Buffer.alloc(0), closed: false };

  private constructor(actor: Actor, name: string) {
    this.#actor = actor;
    this.#name = name;
  }

  get lost(): boolean {
    return this.#actor.gone;
  }

  static async open(actor: Actor, name: string, path: string): Promise<ActorConnection> {
    await actor.open(name, path);
    return new ActorConnection(actor, name);
  }

  async send(bytes: Buffer, descriptors: number): Promise<void> {
    await this.#actor.send(this.#name, bytes, descriptors);
  }

  async arrived(messages: number): Promise<void> {
    await eventually(
      'the awaited messages',
      async () => {
        await this.#take();
        return this.lost || this.#received.closed || wholeMessages(this.#received.bytes) >= messages;
      },
      ARRIVAL_MS,
    ).catch(() => undefined);
  }

  async receive(): Promise<Received> {
    await this.#take();
    const received = this.#received;
    this.#received = { bytes: Buffer.alloc(0), closed: received.closed };
    return received;
  }

  async #take(): Promise<void> {
    const { bytes, closed } = await this.#actor.receive(this.#name);
    this.#received = { bytes: Buffer.concat([this.#received.bytes, bytes]), closed: closed || this.#received.closed };
  }

  async halfClose(): Promise<void> {
    await this.#actor.halfClose(this.#name);
    await this.arrived(Infinity);
  }

  async close(): Promise<void> {
    await this.#actor.close(this.#name);
  }
}
