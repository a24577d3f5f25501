/**
 * A client's connection to a daemon: calls procedures by their description, and delivers events. Calls may overlap; the
 * daemon answers them in order.
 */
import { createConnection, type Socket } from 'node:net';
import { XdrError, XdrReader } from '../../xdr/codec.ts';
import { remoteError } from '../../xdr/error.ts';
import { type Header, LENGTH_SIZE, MessageStatus, MessageType, readHeader } from '../../xdr/frame.ts';
import type { ArgsOf, Program, ResultOf } from '../../xdr/program.ts';
import type { Xdr } from '../../xdr/schema.ts';
import { encodeCall } from './calls.ts';
import { atCaller, CallTimeout, ConnectionLost, ProtocolError, RemoteFailure } from './errors.ts';
import { FrameReader } from './frames.ts';

/** The default timeout of a connect or a call, in milliseconds. */
const DEFAULT_TIMEOUT_MS = 30_000;

export interface CallOptions {
  /** Milliseconds until {@link CallTimeout}; 0: never. Default: the timeout given to connect, or 30 s. */
  readonly timeout?: number | undefined;
  /** Rejects the call with the signal's reason. The daemon may serve it nevertheless. */
  readonly signal?: AbortSignal | undefined;
}

interface Pending {
  readonly resolve: (reader: XdrReader) => void;
  readonly reject: (error: Error) => void;
}

/** The reader is at the payload, and is valid until the handler returns. */
type EventHandler = (reader: XdrReader) => void;

export class Client {
  private readonly socket: Socket;
  private readonly frames = new FrameReader();
  private readonly pending = new Map<number, Pending>();
  private readonly handlers = new Map<string, EventHandler>();
  private readonly closers: ((error: ConnectionLost) => void)[] = [];
  private readonly header: Header = { program: 0, version: 0, procedure: 0, type: 0, serial: 0, status: 0 };
  private readonly timeout: number | undefined;
  /** Of the next call. As in libvirt, the first is 0. */
  private serial = 0;
  private lost: ConnectionLost | undefined;

  private constructor(socket: Socket, path: string, timeout: number | undefined) {
    this.socket = socket;
    this.timeout = timeout;
    let cause: Error | undefined;
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', (error: Error) => {
      cause = error;
    });
    socket.on('close', () => this.end(new ConnectionLost(`the connection to ${path} was closed`, cause)));
  }

  /**
   * Connects to the UNIX socket at `path`. The timeout is also the default of each call; the signal is for the connect only.
   * @throws ConnectionLost with the system's code, CallTimeout, or the signal's reason
   */
  static async connect(path: string, options: CallOptions = {}): Promise<Client> {
    const socket = createConnection({ path });
    await withLimits<undefined>(`no connection to ${path}`, options, (resolve, reject) => {
      socket.once('connect', () => resolve(undefined));
      socket.once('error', (error: NodeJS.ErrnoException) =>
        reject(new ConnectionLost(`cannot connect to ${path}: ${error.message}`, error)),
      );
    }).catch((error: unknown) => {
      socket.destroy();
      throw error;
    });
    socket.removeAllListeners('error');
    return new Client(socket, path, options.timeout);
  }

  /** Whether calls can still be made. */
  get isOpen(): boolean {
    return this.lost === undefined;
  }

  /**
   * Calls a procedure by name.
   * @throws RemoteFailure when the daemon answers with an error
   * @throws ConnectionLost, CallTimeout, ProtocolError, or the signal's reason
   */
  async call<P extends object, N extends keyof P & string>(
    program: Program<P>,
    name: N,
    args: ArgsOf<P[N]>,
    options: CallOptions = {},
  ): Promise<ResultOf<P[N]>> {
    if (this.lost !== undefined) throw atCaller(this.lost, name);
    const { serial } = this;
    this.serial = (serial + 1) >>> 0;
    const { bytes, result } = encodeCall(program, name, args, serial);
    try {
      const limits = { timeout: options.timeout ?? this.timeout, signal: options.signal };
      return await withLimits<ResultOf<P[N]>>(`no answer to ${name}`, limits, (resolve, reject) => {
        this.pending.set(serial, {
          resolve: (reader) => {
            try {
              resolve(result.read(reader));
            } catch (error) {
              reject(new ProtocolError(`the result of ${name} cannot be read: ${(error as Error).message}`));
            }
          },
          reject,
        });
        this.socket.write(bytes);
      });
    } catch (error) {
      throw atCaller(error, name);
    } finally {
      this.pending.delete(serial);
    }
  }

  /** Calls `handler` for every event of this kind. Another handler for the same kind replaces it. */
  onEvent<T>(program: Program<object>, number: number, payload: Xdr<T>, handler: (value: T) => void): void {
    this.handlers.set(`${program.number}:${program.version}:${number}`, (reader) => handler(payload.read(reader)));
  }

  /** The events of a kind as a stream, until the connection ends. Unread events wait in memory. */
  events<T>(program: Program<object>, number: number, payload: Xdr<T>): AsyncGenerator<T, void, undefined> {
    const queue: T[] = [];
    let wake = (): void => undefined;
    this.onEvent(program, number, payload, (value) => {
      queue.push(value);
      wake();
    });
    this.onClose(() => wake());
    const isOpen = (): boolean => this.isOpen;
    return (async function* () {
      for (;;) {
        const value = queue.shift();
        if (value !== undefined) yield value;
        else if (!isOpen()) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    })();
  }

  /** Calls `handler` once when either side has closed the connection; at once if that has happened. */
  onClose(handler: (error: ConnectionLost) => void): void {
    if (this.lost === undefined) this.closers.push(handler);
    else handler(this.lost);
  }

  /** Closes the connection; calls under way fail. */
  close(): void {
    this.socket.destroy();
    this.end(new ConnectionLost('the connection was closed here'));
  }

  private end(error: ConnectionLost): void {
    if (this.lost !== undefined) return;
    this.lost = error;
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
    for (const closer of this.closers.splice(0)) closer(error);
  }

  private receive(chunk: Buffer): void {
    try {
      for (const message of this.frames.push(chunk)) this.take(message);
    } catch (error) {
      const failure = error instanceof XdrError ? new ProtocolError(error.message) : (error as Error);
      for (const { reject } of this.pending.values()) reject(failure);
      this.pending.clear();
      this.socket.destroy();
    }
  }

  private take(message: Buffer): void {
    const reader = new XdrReader(message, LENGTH_SIZE);
    const { header } = this;
    readHeader(reader, header);
    if (header.type === MessageType.MESSAGE) {
      this.handlers.get(`${header.program}:${header.version}:${header.procedure}`)?.(reader);
      return;
    }
    if (header.type !== MessageType.REPLY) throw new ProtocolError(`a message of type ${header.type}`);
    const call = this.pending.get(header.serial);
    // The call has timed out, or was aborted.
    if (call === undefined) return;
    if (header.status === MessageStatus.OK) call.resolve(reader);
    else call.reject(new RemoteFailure(remoteError.read(reader)));
  }
}

/** A promise that rejects after the timeout, and when the signal aborts. */
async function withLimits<T>(
  what: string,
  { timeout = DEFAULT_TIMEOUT_MS, signal }: CallOptions,
  start: (resolve: (value: T) => void, reject: (error: Error) => void) => void,
): Promise<T> {
  signal?.throwIfAborted();
  let timer: NodeJS.Timeout | undefined;
  let onAbort = (): void => undefined;
  try {
    return await new Promise<T>((resolve, reject) => {
      if (timeout > 0) {
        timer = setTimeout(() => reject(new CallTimeout(`${what} within ${timeout} ms`)), timeout);
      }
      onAbort = (): void => reject(signal?.reason instanceof Error ? signal.reason : new Error(String(signal?.reason)));
      signal?.addEventListener('abort', onAbort, { once: true });
      start(resolve, reject);
    });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}
