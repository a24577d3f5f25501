/** Decodes both directions of a connection, and matches replies with their calls. */
import { XdrReader } from '../../../xdr/codec.ts';
import { remoteError } from '../../../xdr/error.ts';
import { type Header, LENGTH_SIZE, MessageStatus, MessageType, readHeader } from '../../../xdr/frame.ts';
import type { Shape } from '../../../xdr/schema.ts';
import { type Decoded, otherSide, type Peer, type Side, type Sink, type Stamp, type Undecoded } from './events.ts';
import { type Known, lookUp, nameOf } from './programs.ts';
import { MessageStream } from './stream.ts';
import { type Plain, walk } from './walk.ts';

/** At most this many unanswered calls are remembered. Replies to others have no times. */
const MAX_WAITING = 10_000;

interface Call {
  readonly known: Known | undefined;
  readonly micros: number;
}

export class Conversation {
  readonly id: number;
  /** As of the last bytes: a process may become another program. */
  peer: Peer;
  private readonly sink: Sink;
  private readonly streams: Readonly<Record<Side, MessageStream>>;
  /** By caller, program, procedure and serial. */
  private readonly calls = new Map<string, Call>();

  constructor(id: number, peer: Peer, sink: Sink) {
    this.id = id;
    this.peer = peer;
    this.sink = sink;
    this.streams = { client: new MessageStream(), daemon: new MessageStream() };
  }

  open(time: Stamp): void {
    this.sink({ kind: 'open', time, connection: this.id, peer: this.peer });
  }

  close(time: Stamp): void {
    this.sink({ kind: 'close', time, connection: this.id, peer: this.peer });
  }

  note(time: Stamp, text: string): void {
    this.sink({ kind: 'note', time, connection: this.id, peer: this.peer, text });
  }

  descriptors(from: Side, count: number, time: Stamp): void {
    this.sink({ kind: 'descriptors', time, connection: this.id, peer: this.peer, from, count });
  }

  /** See {@link MessageStream.wanted}. */
  wanted(from: Side): number {
    return this.streams[from].wanted;
  }

  push(from: Side, bytes: Buffer, time: Stamp): void {
    const common = { time, connection: this.id, peer: this.peer, from };
    for (const piece of this.streams[from].push(bytes)) {
      if (piece.kind === 'message') {
        this.sink({ ...common, kind: 'message', message: this.decode(from, piece.bytes, time.micros) });
      } else {
        const reason = piece.kind === 'broken' ? piece.reason : 'the byte that carries a descriptor';
        this.sink({ ...common, kind: 'undecoded', undecoded: { bytes: piece.bytes, reason } });
      }
    }
  }

  end(from: Side, time: Stamp): void {
    const common = { time, connection: this.id, peer: this.peer, from };
    const bytes = this.streams[from].rest;
    if (bytes.length > 0) {
      const missing = this.streams[from].wanted;
      const reason = `the message is cut off: at least ${missing} bytes are missing`;
      this.sink({ ...common, kind: 'undecoded', undecoded: { bytes, reason } });
    }
    this.sink({ ...common, kind: 'end' });
  }

  private decode(from: Side, bytes: Buffer, micros: number): Decoded {
    const reader = new XdrReader(bytes, LENGTH_SIZE);
    const header: Header = { program: 0, version: 0, procedure: 0, type: 0, serial: 0, status: 0 };
    readHeader(reader, header);
    const { program, version, procedure, type, serial, status } = header;
    const isReply = type === MessageType.REPLY || type === MessageType.REPLY_WITH_FDS;
    const isCall = type === MessageType.CALL || type === MessageType.CALL_WITH_FDS;
    const isEvent = type === MessageType.MESSAGE;
    const hasDescriptors = type === MessageType.CALL_WITH_FDS || type === MessageType.REPLY_WITH_FDS;
    const descriptors = hasDescriptors && reader.remaining >= 4 ? reader.u32() : 0;

    const found = lookUp(program, version, procedure);
    const key = `${isReply ? otherSide(from) : from}:${program}:${procedure}:${serial}`;
    let shape: Shape | undefined;
    let tookMicros: number | undefined;
    if (isCall) {
      this.remember(key, { known: found, micros });
      shape = found?.args;
    } else if (isReply) {
      const call = this.calls.get(key);
      this.calls.delete(key);
      if (call !== undefined && !Number.isNaN(micros - call.micros)) tookMicros = micros - call.micros;
      shape = status === MessageStatus.ERROR ? remoteError.shape : (call?.known ?? found)?.result;
    } else if (isEvent) {
      shape = found?.args;
    }

    const { payload, undecoded } = payloadOf(shape, reader);
    const form = isCall ? 'call' : isReply ? 'reply' : isEvent ? 'event' : 'other';
    return {
      ...header,
      ...{ form, name: nameOf(program, version, procedure), length: bytes.length, payload, undecoded },
      ...{ isError: isReply && status === MessageStatus.ERROR, tookMicros, descriptors },
    };
  }

  private remember(key: string, call: Call): void {
    if (this.calls.size >= MAX_WAITING) {
      const [oldest] = this.calls.keys();
      if (oldest !== undefined) this.calls.delete(oldest);
    }
    this.calls.set(key, call);
  }
}

function payloadOf(
  shape: Shape | undefined,
  reader: XdrReader,
): { payload: Plain | undefined; undecoded: Undecoded | undefined } {
  const start = reader.offset;
  const left = (from: number): Buffer => reader.buffer.subarray(from, reader.end);
  if (shape === undefined) {
    const bytes = left(start);
    return { payload: undefined, undecoded: bytes.length === 0 ? undefined : { bytes, reason: 'unknown procedure' } };
  }
  const { value, broken } = walk(shape, reader);
  if (broken !== undefined) {
    const place = `byte ${start + broken.offset} of the message${broken.field === '' ? '' : `, ${broken.field}`}`;
    return { payload: value, undecoded: { bytes: left(start), reason: `broken at ${place}: ${broken.reason}` } };
  }
  const behind = reader.remaining;
  if (behind === 0) return { payload: value, undecoded: undefined };
  return { payload: value, undecoded: { bytes: left(reader.offset), reason: `${behind} bytes after the last field` } };
}
