/** Calls of the admin program, spelled byte by byte for the tests: nothing here is shared with xdr/. */
import { adminProgram, type Call, text, u32 } from './wire.ts';

function call(procedure: number, ...parts: readonly Buffer[]): Call {
  return { program: adminProgram, procedure, payload: Buffer.concat(parts) };
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

function optional(value: string): Buffer {
  return Buffer.concat([u32(1), text(value)]);
}

/** Unsigned typed parameters, by name. */
function unsigned(parameters: Readonly<Record<string, number>>): Buffer {
  const entries = Object.entries(parameters);
  return Buffer.concat([
    u32(entries.length),
    ...entries.map(([name, value]) => Buffer.concat([text(name), u32(2), u32(value)])),
  ]);
}

const none = u32(0);

export const admin = {
  lookupServer: (name: string | Uint8Array): Call => call(5, text(name), none),
  threadPool: (server: string): Call => call(6, text(server), none),
  setThreadPool: (server: string, parameters: Readonly<Record<string, number>>): Call =>
    call(7, text(server), unsigned(parameters), none),
  clients: (server: string): Call => call(8, text(server), u32(1), none),
  clientInfo: (server: string, id: number): Call => call(10, text(server), u64(BigInt(id)), u64(0n), none, none),
  closeClient: (server: string, id: number): Call => call(11, text(server), u64(BigInt(id)), u64(0n), none, none),
  limits: (server: string): Call => call(12, text(server), none),
  setLimits: (server: string, parameters: Readonly<Record<string, number>>): Call =>
    call(13, text(server), unsigned(parameters), none),
  outputs: call(14, none),
  filters: call(15, none),
  setOutputs: (setting: string): Call => call(16, optional(setting), none),
  setFilters: (setting: string): Call => call(17, optional(setting), none),
  setTimeout: (seconds: number): Call => call(19, u32(seconds), none),
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
