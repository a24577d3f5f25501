/**
 * Framing: the length word and the header that begin every message.
 *
 *     u32 length     the whole message, this word included
 *     u32 program    u32 version    i32 procedure    i32 type    u32 serial    i32 status
 *     payload
 */
import type { XdrReader, XdrWriter } from './codec.ts';

/** Bytes of the length word. */
export const LENGTH_SIZE = 4;
/** Bytes of the header behind the length word. */
export const HEADER_SIZE = 24;
/** The shortest message: length and header. */
export const MESSAGE_MIN = LENGTH_SIZE + HEADER_SIZE;
/** The longest message in bytes, its length word included: 32 MiB of header and payload. */
export const MESSAGE_MAX = 32 * 1024 * 1024 + LENGTH_SIZE;
/** The most descriptors that one message may announce. */
export const DESCRIPTORS_MAX = 32;

/** Types of messages (libvirt's virNetMessageType). */
export const MessageType = {
  CALL: 0,
  REPLY: 1,
  MESSAGE: 2,
  STREAM: 3,
  CALL_WITH_FDS: 4,
  REPLY_WITH_FDS: 5,
  STREAM_HOLE: 6,
} as const;

/** The outcome of a call, or that a stream goes on (libvirt's virNetMessageStatus). */
export const MessageStatus = { OK: 0, ERROR: 1, CONTINUE: 2 } as const;

export interface Header {
  program: number;
  version: number;
  /** Signed, unlike the other words: an unknown procedure is reported with its sign. */
  procedure: number;
  /** Signed; see {@link MessageType}. */
  type: number;
  serial: number;
  /** See {@link MessageStatus}. */
  status: number;
}

/** Whether a message may have this length. A peer that claims another one is disconnected. */
export function isLengthValid(length: number): boolean {
  return length >= MESSAGE_MIN && length <= MESSAGE_MAX;
}

/** Reads the header behind the length word into `header`, which serves one message after the other. */
export function readHeader(reader: XdrReader, header: Header): void {
  header.program = reader.u32();
  header.version = reader.u32();
  header.procedure = reader.i32();
  header.type = reader.i32();
  header.serial = reader.u32();
  header.status = reader.i32();
}

/** Writes a length word and the header. Returns the offset for {@link endMessage}, which fills in the length. */
export function beginMessage(writer: XdrWriter, header: Header): number {
  const start = writer.length;
  writer.u32(0);
  writer.u32(header.program);
  writer.u32(header.version);
  writer.i32(header.procedure);
  writer.i32(header.type);
  writer.u32(header.serial);
  writer.i32(header.status);
  return start;
}

export function endMessage(writer: XdrWriter, start: number): void {
  writer.patchU32(start, writer.length - start);
}
