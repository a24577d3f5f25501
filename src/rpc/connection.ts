/**
 * One client: finds the messages in its bytes, has them served one after the other, and sends the replies. While the peer does not
 * take its replies, nothing is read from it. So a connection can make the daemon hold one burst of replies at most, and as much of
 * a message as its program can use.
 */
import { constants } from 'node:os';
import { XdrReader, type XdrWriter } from '../../xdr/codec.ts';
import { DESCRIPTORS_MAX, isLengthValid, LENGTH_SIZE, MESSAGE_MAX, MESSAGE_MIN, MessageType } from '../../xdr/frame.ts';
import { Allowance } from '../log/allowance.ts';
import { logger, logging } from '../log/log.ts';
import { posix, strerror } from '../posix/posix.ts';
import type { Caller } from './dispatch.ts';
import type { Sender } from './outbox.ts';
import type { Poller, Pollable } from './poller.ts';
import { type Ending, Waiters, type Waiting } from './waiting.ts';

const log = logger('rpc.netserverclient');
const { EAGAIN, ENOBUFS, ENOMEM } = constants.errno;

/** Offset of the message's type word, and of the descriptor count of a CALL_WITH_FDS. */
const TYPE_OFFSET = 16;

/** The process at the other end when it connected (SO_PEERCRED). */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** When it started, in ticks since boot; only where the kernel cannot identify the process later. */
  readonly startTime?: number;
}

/** The server of a connection, as that needs it. */
export interface ConnectionHost<C> {
  readonly poller: Poller;
  /** How many bytes of a message its programs can use; the rest is read and dropped. */
  readonly maxUsefulMessage: number;
  /** Makes the context that handlers get for this connection. */
  open(connection: Connection<C>): C;
  /** Serves the message in `reader`: see `Dispatcher.dispatch`. */
  serve(connection: Connection<C>, reader: XdrReader, out: XdrWriter): Waiting | null;
  /** See {@link Connection.arrival}: of a call that begins to wait. */
  nextArrival(): number;
  /** The connection has ended. Its descriptor is closed afterwards, but for {@link Connection.keepSocket}. */
  closed(connection: Connection<C>): void;
}

/** Bytes of a connection that a restart carries over. */
export interface Pending {
  /** Received and not served: one incomplete message, or whole ones behind unsent replies. */
  readonly received: Buffer;
  /** How many further bytes of the message at the start of `received` are to be dropped. */
  readonly skip: number;
  /** Replies, or parts of one, that the peer has not taken. */
  readonly unsent: Buffer;
  /** Whether to close the connection once the peer has taken those. */
  readonly closing?: boolean;
}

const NO_BYTES = Buffer.alloc(0);

/** Whether to repeat a system call. A lack of memory says nothing about the peer: its connection is sound. */
function isPassing(status: number): boolean {
  return status === -EAGAIN || status === -ENOBUFS || status === -ENOMEM;
}

// Shared by all connections, which are served one at a time.
const reader = new XdrReader(NO_BYTES);

export class Connection<C = unknown> implements Caller<C>, Ending, Pollable, Sender {
  readonly fd: number;
  readonly id: number;
  readonly peer: Peer;
  /** Seconds since 1970. */
  readonly connectedAt: number;
  isOpen = true;
  isIdentified = false;
  /** The place of its call that waits, or is about to be made again, among those of all connections, by their arrival; 0: none does. */
  arrival = 0;
  readonly context: C;
  private readonly host: ConnectionHost<C>;
  private readonly poller: Poller;
  /** Its first `inputLength` bytes are received and not served. */
  private inputBuffer: Buffer = NO_BYTES;
  private inputLength = 0;
  /** See {@link Pending.skip}. */
  private skip = 0;
  private outputBuffer: Buffer = NO_BYTES;
  private closing = false;
  /** Others are served before its input: see {@link Pollable.onTurn}. */
  private postponed = false;
  /** Forgets the waiting call, the first message of the input. Null when none waits. */
  private forgetCall: (() => void) | null = null;
  private keepsSocket = false;
  /** Calls of others that wait for its end. Most connections have none. */
  private awaitingClose: Waiters | undefined;
  /** Of its mistakes in the log. Most connections make none. */
  private allowance: Allowance | undefined;

  constructor(host: ConnectionHost<C>, fd: number, id: number, peer: Peer, connectedAt: number) {
    this.host = host;
    this.poller = host.poller;
    this.fd = fd;
    this.id = id;
    this.peer = peer;
    this.connectedAt = connectedAt;
    this.context = host.open(this);
  }

  /** Begins to serve. */
  start(): void {
    this.poller.add(this.fd, this);
    if (this.isCallAbandoned) this.postpone();
    else if (this.mayServe) this.serveInput();
    this.awaitRoom();
    this.poller.outbox.send();
  }

  onRead(input: Buffer, offset: number, length: number, descriptors: boolean): void {
    if (length > 0) this.receive(input, offset, offset + length, descriptors);
    else if (length === 0 && this.poller.isOverdue && !this.isWaiting) {
      // Its end is reported again. Very many may end together, and each end may take long.
      this.postpone();
    } else if (!isPassing(length)) {
      if (length < 0) log.debug(() => `reading from client ${this.id}: ${strerror(length)}`);
      this.close();
    }
  }

  onWritable(): void {
    const { outputBuffer } = this;
    this.outputBuffer = NO_BYTES;
    if (!this.send(outputBuffer, outputBuffer.length)) return;
    if (this.closing) {
      this.close();
      return;
    }
    if (this.isWaiting) {
      this.poller.awaitEnd(this.fd);
      return;
    }
    // Its call was woken in this round: onTurn goes on.
    if (this.postponed) return;
    this.poller.awaitReadable(this.fd);
    // Input from before the peer stopped reading comes first.
    this.serveInput();
  }

  onTurn(): void {
    this.postponed = false;
    if (this.isCallAbandoned) this.close();
    else if (this.mayServe) this.serveInput();
    this.awaitRoom();
  }

  /** A call that has waited is made whether or not its peer takes answers: others may wait for that. */
  private get mayServe(): boolean {
    return this.outputBuffer.length === 0 || this.arrival > 0;
  }

  /** Polls for room to send, if answers are left. */
  private awaitRoom(): void {
    if (this.isOpen && !this.postponed && this.outputBuffer.length > 0) this.poller.awaitWritable(this.fd);
  }

  mayLog(bytes: number): boolean {
    this.allowance ??= new Allowance((leftOut) => {
      const { caller } = logging;
      logging.caller = null;
      log.warn(`Client ${this.id} (pid ${this.peer.pid}) had ${leftOut} more messages, which are not logged`);
      logging.caller = caller;
    });
    return this.allowance.admits(bytes);
  }

  /** Whether a call waits for its answer. */
  get isWaiting(): boolean {
    return this.forgetCall !== null;
  }

  /**
   * Its peer has hung up, and this is about to be read. The kernel reports an end of which it is told while nobody polls behind the
   * input of connections that were served last, and an end may be postponed.
   */
  get hasUnreadEnd(): boolean {
    // Of a peer that may still take replies, nothing is read before it has taken them.
    return this.isOpen && posix.hasHungUp(this.fd, this.isWaiting || this.outputBuffer.length > 0 ? 2 : 1);
  }

  /**
   * Its peer has hung up while a call of it waited. Nobody would release what that acquired if it were made again, and the end may be read
   * after what the call waited for.
   */
  private get isCallAbandoned(): boolean {
    return this.arrival > 0 && posix.hasHungUp(this.fd, 2);
  }

  /** Has others served first. */
  private postpone(): void {
    this.postponed = true;
    this.poller.postpone(this.fd, this);
  }

  wait(done: () => void): () => void {
    return (this.awaitingClose ??= new Waiters()).wait(done);
  }

  /** Serves nothing more, and closes once the replies so far are sent: for CLOSE of the admin program. */
  closeAfterReply(): void {
    this.closing = true;
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    // A client that asks for its own end gets the replies to its earlier calls.
    this.poller.outbox.send();
    this.poller.remove(this.fd);
    this.forgetCall?.();
    this.forgetCall = null;
    this.host.closed(this);
    this.awaitingClose?.wake();
    this.allowance?.end();
    // Only now that the end is recorded: if the process dies earlier, the next one must find the mark.
    this.poller.inputConsumed(this.fd, false);
    if (!this.keepsSocket) posix.close(this.fd);
  }

  /** {@link keepSocket} was called: the descriptor stays open after the connection's end. */
  get isSocketKept(): boolean {
    return this.keepsSocket;
  }

  /** For {@link ConnectionHost.closed}: keeps the descriptor open, but the peer sees the end. Returns the descriptor. */
  keepSocket(): number {
    this.keepsSocket = true;
    posix.shutdownSocket(this.fd);
    return this.fd;
  }

  /** Sends an event behind all replies so far, outside of any call. False when the peer has not taken what was sent before. */
  sendEvent(bytes: Buffer): boolean {
    this.poller.outbox.send();
    if (!this.isOpen || this.outputBuffer.length > 0) return false;
    this.send(bytes, bytes.length);
    return true;
  }

  get pending(): Pending {
    return {
      received: this.inputBuffer.subarray(0, this.inputLength),
      skip: this.skip,
      unsent: this.outputBuffer,
      closing: this.closing,
    };
  }

  /** Before {@link start}. */
  restore({ received, skip, unsent, closing = false }: Pending): void {
    this.inputBuffer = received;
    this.inputLength = received.length;
    this.skip = skip;
    this.outputBuffer = unsent;
    this.closing = closing;
  }

  private receive(input: Buffer, start: number, end: number, descriptors: boolean): void {
    if (this.skip > 0) {
      const dropped = Math.min(this.skip, end - start);
      this.skip -= dropped;
      start += dropped;
      if (this.skip > 0) return;
      // Without its tail, the message is a shorter one.
      this.inputBuffer.writeUInt32BE(this.inputLength, 0);
    } else if (this.inputLength === 0 && this.outputBuffer.length === 0) {
      this.serve(input, start, end, start, descriptors);
      return;
    }
    const before = this.inputLength;
    this.buffer(input, start, end);
    if (this.outputBuffer.length === 0) this.serveInput(before, descriptors);
  }

  /**
   * Serves the input, if its first message is whole or malformed.
   *
   * @param newest where in it the bytes begin that have just come
   */
  private serveInput(newest = this.inputLength, descriptors = false): void {
    const { inputBuffer, inputLength } = this;
    if (inputLength < LENGTH_SIZE) return;
    const length = inputBuffer.readUInt32BE(0);
    if (length <= MESSAGE_MAX && inputLength < length) return;
    this.inputBuffer = NO_BYTES;
    this.inputLength = 0;
    this.serve(inputBuffer, 0, inputLength, newest, descriptors);
  }

  /**
   * Serves every whole message between `start` and `end`, queues the replies, and buffers the remaining bytes.
   *
   * @param newest where the bytes begin that have just come, with `descriptors` or not
   */
  private serve(bytes: Buffer, start: number, end: number, newest: number, descriptors: boolean): void {
    let at = start;
    while (end - at >= LENGTH_SIZE && !this.closing) {
      const size = this.sizeOf(bytes, at, end, newest, descriptors);
      if (size < 0) {
        this.close();
        return;
      }
      if (size > end - at) break;
      reader.reset(bytes, at, at + bytes.readUInt32BE(at));
      const waiting = this.host.serve(this, reader, this.poller.outbox.writer);
      if (!this.isOpen) {
        this.poller.outbox.discard();
        return;
      }
      if (waiting !== null) {
        this.leaveInInput(waiting);
        break;
      }
      this.arrival = 0;
      at += size;
      if (this.outputBuffer.length > 0) {
        this.outputBuffer = Buffer.concat([this.outputBuffer, this.poller.outbox.take()]);
        break;
      }
      if (this.poller.outbox.queue(this) && !this.isDrained) break;
      if (end - at >= LENGTH_SIZE && this.poller.isOverdue) {
        this.postponed = true;
        break;
      }
    }
    if (this.closing) {
      this.postponed = false;
      this.poller.outbox.send();
      if (this.isDrained) this.close();
    } else if (this.isOpen) {
      this.buffer(bytes, at, end);
      if (this.postponed) this.poller.postpone(this.fd, this);
      if (this.inputLength === 0) {
        this.poller.inputConsumed(this.fd, this.outputBuffer.length > 0 || this.poller.outbox.hasQueued(this));
      }
    }
  }

  /** Leaves the present call in the input, until it is time to make it again. */
  private leaveInInput(waiting: Waiting): void {
    if (this.arrival === 0) this.arrival = this.host.nextArrival();
    this.forgetCall = waiting.begin(() => {
      this.forgetCall = null;
      this.postpone();
    });
    if (this.outputBuffer.length === 0) this.poller.awaitEnd(this.fd);
  }

  /**
   * Bytes of the message at `at`, with the data bytes that carry its descriptors if those can be counted yet. Negative when the peer
   * is to be disconnected.
   */
  private sizeOf(bytes: Buffer, at: number, end: number, newest: number, descriptors: boolean): number {
    const length = bytes.readUInt32BE(at);
    // C reads a message that is too short for a header to its end before it disconnects.
    if (length >= LENGTH_SIZE && length < MESSAGE_MIN && end - at < length) return length;
    if (!isLengthValid(length)) {
      log.warn(`Client ${this.id} (pid ${this.peer.pid}) sent a message of ${length} bytes and is disconnected`);
      return -1;
    }
    if (end - at < length || bytes.readInt32BE(at + TYPE_OFFSET) !== MessageType.CALL_WITH_FDS) return length;
    const count = length < MESSAGE_MIN + 4 ? DESCRIPTORS_MAX + 1 : bytes.readUInt32BE(at + MESSAGE_MIN);
    if (count > DESCRIPTORS_MAX) return -1;
    // A data byte without its descriptor ends the connection, as in C. The kernel ends a read behind the bytes that a descriptor
    // came with, so a read brings one such byte at most; earlier ones have been checked.
    const dataBytes = Math.min(end, at + length + count) - Math.max(at + length, newest);
    return dataBytes > 1 || (dataBytes === 1 && !descriptors) ? -1 : length + count;
  }

  /** Keeps bytes for later, in a buffer that grows with the bytes received, not with the length that a message claims. */
  private buffer(bytes: Buffer, start: number, end: number): void {
    if (start === end) return;
    const length = this.inputLength + end - start;
    if (length > this.inputBuffer.length) {
      const larger = Buffer.allocUnsafeSlow(
        Math.max(length, Math.min(this.inputBuffer.length * 2, this.host.maxUsefulMessage * 2)),
      );
      this.inputBuffer.copy(larger, 0, 0, this.inputLength);
      this.inputBuffer = larger;
    }
    bytes.copy(this.inputBuffer, this.inputLength, start, end);
    this.inputLength = length;
    // Drops the rest of a message that is longer than any program reads.
    if (length >= this.host.maxUsefulMessage) this.skip = Math.max(0, this.inputBuffer.readUInt32BE(0) - length);
  }

  /** Whether the peer has taken all replies sent so far. */
  private get isDrained(): boolean {
    return this.isOpen && this.outputBuffer.length === 0;
  }

  /** Sends `length` bytes. False when the peer does not take all: {@link onWritable} sends the rest. */
  private send(bytes: Buffer, length: number): boolean {
    const sent = posix.send(this.fd, bytes, 0, length);
    if (sent < length) this.onUnsent(bytes.subarray(0, length), sent);
    return sent === length;
  }

  onUnsent(bytes: Buffer, sent: number): void {
    if (!this.isOpen) return;
    if (sent < 0 && !isPassing(sent)) {
      log.debug(() => `writing to client ${this.id}: ${strerror(sent)}`);
      this.close();
      return;
    }
    this.outputBuffer = Buffer.from(bytes.subarray(Math.max(sent, 0)));
    if (!this.postponed) this.poller.awaitWritable(this.fd);
  }
}
