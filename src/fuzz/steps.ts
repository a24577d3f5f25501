/**
 * A sequence: what one run does to a daemon, as plain JSON, so that a finding is a file. Paths are relative to the
 * daemon's working directory, and `~` in a name stands for a directory of this run alone.
 */
import { XdrWriter } from '../../xdr/codec.ts';
import { beginMessage, endMessage, type Header } from '../../xdr/frame.ts';
import type { Procedure } from '../../xdr/program.ts';
import { lockProcedures, lockProgram } from '../../xdr/programs/lock.ts';
import type { Shape } from '../../xdr/schema.ts';

/** Values as JSON holds them: opaque data is hexadecimal, a 64-bit number a string. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** What is done to a well-formed message before it is sent. */
export interface Edit {
  readonly header?: Partial<Header>;
  /** Bytes put over the message at an offset, hexadecimal. */
  readonly put?: readonly (readonly [number, string])[];
  /** This many bytes are cut from the payload's end; the length word follows unless `length` says otherwise. */
  readonly cut?: number;
  /** Bytes behind the payload, hexadecimal. */
  readonly tail?: string;
  readonly length?: number;
  /** Sent in pieces of these sizes, the rest in one. */
  readonly pieces?: readonly number[];
  /** Sent as CALL_WITH_FDS that announces so many, with so many really sent, each with a byte of its own. */
  readonly descriptors?: { readonly announced: number; readonly sent: number };
  /** Descriptors attached to the message itself, which nobody announced. */
  readonly stray?: number;
}

export type FileAct = 'create' | 'unlink' | 'rename' | 'link' | 'symlink' | 'mkdir';

export type Step =
  | { readonly op: 'open'; readonly on: number }
  | { readonly op: 'call'; readonly on: number; readonly call: CallName; readonly args: Json; readonly edit?: Edit }
  | { readonly op: 'raw'; readonly on: number; readonly hex: string }
  /** Several calls in one go, without waiting for replies. */
  | {
      readonly op: 'burst';
      readonly on: number;
      readonly calls: readonly { readonly call: CallName; readonly args: Json }[];
    }
  | { readonly op: 'finish' | 'close'; readonly on: number }
  | { readonly op: 'restart' }
  | { readonly op: 'file'; readonly act: FileAct; readonly name: string; readonly to?: string };

export type Sequence = readonly Step[];
export type CallName = keyof typeof lockProcedures;
export const callNames = Object.keys(lockProcedures) as [CallName, ...CallName[]];

const procedures = lockProcedures as Record<string, Procedure<unknown, unknown>>;

export function procedureOf(name: CallName): Procedure<unknown, unknown> {
  const found = procedures[name];
  if (found === undefined) throw new Error(`no procedure '${name}'`);
  return found;
}

/** The value that a JSON value stands for. */
export function fromJson(shape: Shape, value: Json, directory: string): unknown {
  switch (shape.kind) {
    case 'u64':
    case 'i64':
      return BigInt(value as string);
    case 'opaque':
      return Buffer.from(value as string, 'hex');
    case 'string':
      return (value as string).replaceAll('~', directory);
    case 'optional':
      return value === null ? null : fromJson(shape.of, value, directory);
    case 'list':
      return (value as readonly Json[]).map((item) => fromJson(shape.of, item, directory));
    case 'struct': {
      const fields = value as Record<string, Json>;
      return Object.fromEntries(
        shape.fields.map(([name, field]) => [name, fromJson(field, fields[name] ?? null, directory)]),
      );
    }
    default:
      return value;
  }
}

const writer = new XdrWriter();

/** The bytes of one call. */
export function encodeCall(name: CallName, args: Json, serial: number, directory: string): Buffer {
  const { number, args: type } = procedureOf(name);
  writer.length = 0;
  const start = beginMessage(writer, {
    program: lockProgram.number,
    version: lockProgram.version,
    procedure: number,
    type: 0,
    serial,
    status: 0,
  });
  type.write(writer, fromJson(type.shape, args, directory));
  endMessage(writer, start);
  return Buffer.from(writer.bytes());
}

/** What is sent, piece by piece. `descriptors` go with a piece's first byte. */
export interface Piece {
  readonly bytes: Buffer;
  readonly descriptors: number;
}

const HEADER_WORDS = { program: 4, version: 8, procedure: 12, type: 16, serial: 20, status: 24 } as const;
const HEADER_END = 28;

export function encodeEdited(name: CallName, args: Json, serial: number, directory: string, edit: Edit): Piece[] {
  let bytes = encodeCall(name, args, serial, directory);
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
