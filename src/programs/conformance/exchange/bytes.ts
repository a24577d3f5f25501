/** Arguments of the admin program as bytes; made from nothing but Node's buffers, so that they share no mistake with xdr/. */
import { type Bytes, text, u32 } from '../../../lab/wire.ts';

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
  return bytes;
}

function double(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
}

/** An optional string: absent, or a 1 and the string. */
export function optional(value?: Bytes): Buffer {
  return value === undefined ? u32(0) : Buffer.concat([u32(1), text(value)]);
}

/** One typed parameter. */
export const parameter = {
  int: (field: Bytes, value: number): Buffer => Buffer.concat([text(field), u32(1), u32(value)]),
  uint: (field: Bytes, value: number): Buffer => Buffer.concat([text(field), u32(2), u32(value)]),
  llong: (field: Bytes, value: bigint): Buffer => Buffer.concat([text(field), u32(3), u64(value)]),
  ullong: (field: Bytes, value: bigint): Buffer => Buffer.concat([text(field), u32(4), u64(value)]),
  double: (field: Bytes, value: number): Buffer => Buffer.concat([text(field), u32(5), double(value)]),
  boolean: (field: Bytes, value: number): Buffer => Buffer.concat([text(field), u32(6), u32(value)]),
  string: (field: Bytes, value: Bytes): Buffer => Buffer.concat([text(field), u32(7), text(value)]),
  /** A type that does not exist, with a word behind it. */
  other: (field: Bytes, type: number): Buffer => Buffer.concat([text(field), u32(type), u32(1)]),
} as const;

/** A list of typed parameters. */
export function parameters(...list: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(list.length), ...list]);
}

/** A client as the admin program names one. */
export function client(server: Bytes, id: bigint, timestamp = 0n, transport = 0): Buffer {
  return Buffer.concat([text(server), u64(id), u64(timestamp), u32(transport)]);
}
