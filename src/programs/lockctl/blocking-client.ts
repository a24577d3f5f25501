/**
 * A connection that makes calls one after the other and blocks in the system calls. Node.js's own sockets take as long to
 * load as a few calls take together, so a command that must be quick uses this client.
 */
import { readSync, writeSync } from 'node:fs';
import os from 'node:os';
import { XdrReader } from '../../../xdr/codec.ts';
import { remoteError } from '../../../xdr/error.ts';
import { type Header, isLengthValid, LENGTH_SIZE, MessageStatus, MessageType, readHeader } from '../../../xdr/frame.ts';
import type { ArgsOf, Program, ResultOf } from '../../../xdr/program.ts';
import { encodeCall } from '../../client/calls.ts';
import { CallTimeout, ConnectionLost, ProtocolError, RemoteFailure } from '../../client/errors.ts';
import { posix, strerror } from '../../posix/posix.ts';

export class BlockingClient {
  private readonly path: string;
  private fd: number;
  private readonly header: Header = { program: 0, version: 0, procedure: 0, type: 0, serial: 0, status: 0 };
  private serial = 0;

  /**
   * Connects to the UNIX socket at `path`. Connecting, every read and every write block for at most `timeout` milliseconds.
   * @throws ConnectionLost with the system's code
   */
  constructor(path: string, timeout: number) {
    this.path = path;
    this.fd = posix.connectUnix(Buffer.from(path, 'utf8').toString('latin1'), timeout);
    if (this.fd >= 0) return;
    const error: NodeJS.ErrnoException = new Error(strerror(this.fd));
    error.code = Object.entries(os.constants.errno).find(([, value]) => value === -this.fd)?.[0];
    throw new ConnectionLost(`cannot connect to ${path}: ${error.message}`, error);
  }

  get isOpen(): boolean {
    return this.fd >= 0;
  }

  /**
   * Calls a procedure by name. The promise is settled when this returns.
   * @throws RemoteFailure, ConnectionLost, CallTimeout, ProtocolError
   */
  call<P extends object, N extends keyof P & string>(
    program: Program<P>,
    name: N,
    args: ArgsOf<P[N]>,
  ): Promise<ResultOf<P[N]>> {
    // An exception of the executor rejects the promise.
    return new Promise((resolve) => {
      const { bytes, result } = encodeCall(program, name, args, ++this.serial);
      this.send(name, bytes);
      const reader = this.receive(name);
      if (this.header.status !== MessageStatus.OK) throw new RemoteFailure(remoteError.read(reader));
      resolve(result.read(reader));
    });
  }

  close(): void {
    if (this.fd >= 0) posix.close(this.fd);
    this.fd = -1;
  }

  private send(name: string, bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) at += this.attempt(name, () => writeSync(this.fd, bytes, at));
  }

  /** Returns a reader behind the reply's header. */
  private receive(name: string): XdrReader {
    const size = this.read(name, LENGTH_SIZE).readUInt32BE(0);
    if (!isLengthValid(size)) throw new ProtocolError(`a message of ${size} bytes`);
    const reader = new XdrReader(this.read(name, size - LENGTH_SIZE), 0);
    readHeader(reader, this.header);
    if (this.header.type !== MessageType.REPLY || this.header.serial !== this.serial) {
      throw new ProtocolError(`no reply to ${name}, but a message of type ${this.header.type}`);
    }
    return reader;
  }

  private read(name: string, size: number): Buffer {
    const bytes = Buffer.allocUnsafe(size);
    for (let at = 0; at < size;) {
      const got = this.attempt(name, () => readSync(this.fd, bytes, at, size - at, null));
      if (got === 0) throw this.lost();
      at += got;
    }
    return bytes;
  }

  private attempt(name: string, transfer: () => number): number {
    for (;;) {
      try {
        return transfer();
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // On a socket with a time limit, SIGSTOP and SIGCONT interrupt the call.
        if (code === 'EINTR') continue;
        if (code === 'EAGAIN') throw new CallTimeout(`no answer to ${name} in time`);
        throw this.lost(error as NodeJS.ErrnoException);
      }
    }
  }

  private lost(cause?: NodeJS.ErrnoException): ConnectionLost {
    this.close();
    return new ConnectionLost(`the connection to ${this.path} was closed`, cause);
  }
}
