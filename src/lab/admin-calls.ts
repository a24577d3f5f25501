/** Calls of the admin program, spelled byte by byte for the tests: nothing here is shared with xdr/. */
import { adminProgram, type Bytes, type Call, optional, text, u32, u64 } from './wire.ts';

export function adminCall(procedure: number, ...parts: readonly Uint8Array[]): Call {
  return { program: adminProgram, procedure, payload: Buffer.concat(parts) };
}

function double(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
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

/** Unsigned typed parameters, by name. */
function unsigned(values: Readonly<Record<string, number>>): Buffer {
  return parameters(...Object.entries(values).map(([name, value]) => parameter.uint(name, value)));
}

/** A client as the admin program names one. */
export function client(server: Bytes, id: bigint, timestamp = 0n, transport = 0): Buffer {
  return Buffer.concat([text(server), u64(id), u64(timestamp), u32(transport)]);
}

const none = u32(0);

export const admin = {
  lookupServer: (name: string | Uint8Array): Call => adminCall(5, text(name), none),
  threadPool: (server: string): Call => adminCall(6, text(server), none),
  setThreadPool: (server: string, parameters: Readonly<Record<string, number>>): Call =>
    adminCall(7, text(server), unsigned(parameters), none),
  clients: (server: string): Call => adminCall(8, text(server), u32(1), none),
  clientInfo: (server: string, id: number): Call => adminCall(10, client(server, BigInt(id)), none),
  closeClient: (server: string, id: number): Call => adminCall(11, client(server, BigInt(id)), none),
  limits: (server: string): Call => adminCall(12, text(server), none),
  setLimits: (server: string, parameters: Readonly<Record<string, number>>): Call =>
    adminCall(13, text(server), unsigned(parameters), none),
  outputs: adminCall(14, none),
  filters: adminCall(15, none),
  setOutputs: (setting: string): Call => adminCall(16, optional(setting), none),
  setFilters: (setting: string): Call => adminCall(17, optional(setting), none),
  setTimeout: (seconds: number): Call => adminCall(19, u32(seconds), none),
} as const;

/** The ids in a reply to `clients`, in its order. */
export function clientIds(payload: Buffer): number[] {
  let at = 4;
  return Array.from({ length: payload.readUInt32BE(0) }, () => {
    const server = 4 + Math.ceil(payload.readUInt32BE(at) / 4) * 4;
    const id = Number(payload.readBigUInt64BE(at + server));
    at += server + 8 + 8 + 4;
    return id;
  });
}

/** Unsigned typed parameters in a reply. */
export function readUnsigned(payload: Buffer): Record<string, number> {
  let at = 4;
  const values: Record<string, number> = {};
  for (let left = payload.readUInt32BE(0); left > 0; left--) {
    const length = payload.readUInt32BE(at);
    const name = payload.toString('latin1', at + 4, at + 4 + length);
    at += 4 + Math.ceil(length / 4) * 4;
    values[name] = payload.readUInt32BE(at + 4);
    at += 8;
  }
  return values;
}

/** The text in a reply to `outputs`, or to `filters` where there are some. */
export function readSetting(payload: Buffer, present = 0): string {
  const length = payload.readUInt32BE(present);
  return payload.toString('latin1', present + 4, present + 4 + length);
}
