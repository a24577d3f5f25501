/** The bytes of a step's calls. */
import { XdrWriter } from '../../../xdr/codec.ts';
import { beginMessage, endMessage, type Header } from '../../../xdr/frame.ts';
import type { Shape } from '../../../xdr/schema.ts';
import { type Call, type Edit, type Json, procedureOf, programOf } from './steps.ts';

/** Gives the 64-bit number for a text, such as another connection's id. */
export type Resolve = (text: string) => bigint;

const writer = new XdrWriter();
const NUMBERS: Resolve = (text) => BigInt.asUintN(64, BigInt(text));

function write(shape: Shape, value: Json, directory: string, resolve: Resolve): void {
  switch (shape.kind) {
    case 'void':
      break;
    case 'u32':
    case 'i32':
      writer.u32((value as number) >>> 0);
      break;
    case 'u64':
    case 'i64':
      writer.u64(BigInt.asUintN(64, resolve(value as string)));
      break;
    case 'double':
      writer.double(value as number);
      break;
    case 'bool':
      writer.u32(value === true ? 1 : 0);
      break;
    case 'opaque':
      writer.opaque(Buffer.from(value as string, 'hex'));
      break;
    case 'string': {
      const text = value as string;
      writer.string(text.includes('~') ? text.replaceAll('~', directory) : text);
      break;
    }
    case 'optional':
      writer.u32(value === null ? 0 : 1);
      if (value !== null) write(shape.of, value, directory, resolve);
      break;
    case 'list': {
      const items = value as readonly Json[];
      writer.u32(items.length);
      for (const item of items) write(shape.of, item, directory, resolve);
      break;
    }
    case 'struct': {
      const fields = value as Record<string, Json>;
      for (const [name, field] of shape.fields) write(field, fields[name] ?? null, directory, resolve);
      break;
    }
    case 'union': {
      const { type, value: content } = value as { type: number; value: Json };
      writer.u32(type >>> 0);
      for (const [number, , arm] of shape.arms) if (number === type) write(arm, content, directory, resolve);
      break;
    }
  }
}

/** The bytes of one call. */
export function encodeCall(call: Call, serial: number, directory: string, resolve = NUMBERS): Buffer {
  const { number, args } = procedureOf(call.call, call.program);
  const { number: program, version } = programOf(call.program);
  writer.length = 0;
  const start = beginMessage(writer, { program, version, procedure: number, type: 0, serial, status: 0 });
  write(args.shape, call.args, directory, resolve);
  endMessage(writer, start);
  return Buffer.from(writer.bytes());
}

/** A piece of a message. Its descriptors go with its first byte. */
export interface Piece {
  readonly bytes: Buffer;
  readonly descriptors: number;
}

const HEADER_WORDS = { program: 4, version: 8, procedure: 12, type: 16, serial: 20, status: 24 } as const;
const HEADER_END = 28;

/** Changes a message as an edit says. */
export function editMessage(message: Buffer, edit: Edit): Piece[] {
  let bytes = message;
  if (edit.descriptors !== undefined) {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(edit.descriptors.announced >>> 0);
    bytes = Buffer.concat([bytes.subarray(0, HEADER_END), count, bytes.subarray(HEADER_END)]);
    bytes.writeInt32BE(4, HEADER_WORDS.type);
  }
  if (edit.cut !== undefined) bytes = bytes.subarray(0, Math.max(HEADER_END, bytes.length - edit.cut));
  if (edit.tail !== undefined) bytes = Buffer.concat([bytes, Buffer.from(edit.tail, 'hex')]);
  bytes.writeUInt32BE((edit.length ?? bytes.length) >>> 0, 0);
  for (const [key, value] of Object.entries(edit.header ?? {})) {
    bytes.writeUInt32BE(value >>> 0, HEADER_WORDS[key as keyof Header]);
  }
  for (const [offset, hex] of edit.put ?? []) {
    Buffer.from(hex, 'hex').copy(bytes, Math.min(offset, bytes.length));
  }
  const pieces: Piece[] = [];
  let at = 0;
  for (const size of edit.pieces ?? []) {
    if (at + size >= bytes.length) break;
    pieces.push({ bytes: bytes.subarray(at, at + size), descriptors: 0 });
    at += size;
  }
  pieces.push({ bytes: bytes.subarray(at), descriptors: edit.stray ?? 0 });
  for (let left = edit.descriptors?.sent ?? 0; left > 0; left--) {
    pieces.push({ bytes: Buffer.from([0]), descriptors: 1 });
  }
  return pieces;
}
