/** The wire as the model reads it: a second, plainer reading than xdr/, so that the two do not share a mistake. */

export interface CallHeader {
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly serial: number;
}

/** What must come back. */
export type Expected =
  | { readonly kind: 'closed' }
  | { readonly kind: 'pong' }
  /** A reply of any sort to this call. */
  | { readonly kind: 'any'; readonly header: CallHeader }
  | {
      readonly kind: 'reply';
      readonly header: CallHeader;
      /** Null for success. `open`: the message only begins so. */
      readonly error: {
        readonly code: number;
        readonly domain: number;
        readonly message: string;
        readonly open: boolean;
      } | null;
    };

export interface ParsedCall {
  readonly kind: 'call';
  readonly header: CallHeader;
  readonly procedure: number;
  readonly path: string;
  readonly name: string;
  readonly flags: number;
  readonly id: number;
  readonly pid: number;
}

type Parsed =
  | ParsedCall
  | { readonly kind: 'dropped' }
  | { readonly kind: 'refused'; readonly header: CallHeader; readonly detail: string };

export const pong: Expected = { kind: 'pong' };

const KEEPALIVE = 0x6b656570;
const LOCK = 0x0ea7beef;
const LONGEST = 32 * 1024 * 1024 + 4;
const STRING_MOST = 65536;
const PREFIXES: Readonly<Record<number, string>> = {
  1: 'internal error: ',
  29: 'operation forbidden: ',
  55: 'Requested operation is not valid: ',
  87: 'resource busy: ',
};

/** Cuts a connection's bytes into messages. */
export class Stream {
  private bytes: Buffer = Buffer.alloc(0);
  /** Descriptors still to come for the message that waits in `bytes`. */
  private awaited = 0;

  *feed(bytes: Buffer, descriptors: boolean): Generator<Buffer | 'closed'> {
    if (bytes.length === 0) return;
    let left = bytes;
    let attached = descriptors;
    for (;;) {
      if (this.awaited > 0) {
        if (left.length === 0) return;
        if (!attached) {
          yield 'closed';
          return;
        }
        attached = false;
        left = left.subarray(1);
        if (--this.awaited > 0) continue;
        const message = this.bytes;
        this.bytes = Buffer.alloc(0);
        yield message;
      }
      this.bytes = Buffer.concat([this.bytes, left]);
      left = Buffer.alloc(0);
      if (this.bytes.length < 4) return;
      const length = this.bytes.readUInt32BE(0);
      if (length <= 4 || length > LONGEST) {
        yield 'closed';
        return;
      }
      if (this.bytes.length < length) return;
      const message = this.bytes.subarray(0, length);
      left = this.bytes.subarray(length);
      if (length < 28) {
        yield 'closed';
        return;
      }
      if (message.readInt32BE(16) === 4) {
        const count = length < 32 ? 99 : message.readUInt32BE(28);
        if (count > 32) {
          yield 'closed';
          return;
        }
        if (count > 0) {
          this.bytes = message;
          this.awaited = count;
          attached = false;
          continue;
        }
      }
      this.bytes = Buffer.alloc(0);
      yield message;
      if (left.length === 0) return;
    }
  }
}

function headerOf(message: Buffer): CallHeader {
  return {
    program: message.readUInt32BE(4),
    version: message.readUInt32BE(8),
    procedure: message.readInt32BE(12),
    serial: message.readUInt32BE(20),
  };
}

export function isPing(message: Buffer): boolean {
  const { program, version, procedure } = headerOf(message);
  return program === KEEPALIVE && version === 1 && procedure === 1 && message.readInt32BE(16) === 2;
}

/** The lock program's call in a message. */
export function parseCall(message: Buffer): Parsed {
  const header = headerOf(message);
  const type = message.readInt32BE(16);
  if (type !== 0 && type !== 4) return { kind: 'dropped' };
  const refused = (detail: string): Parsed => ({ kind: 'refused', header, detail });
  if (header.program !== LOCK || header.version !== 1) {
    return refused(`Cannot find program ${header.program | 0} version ${header.version | 0}`);
  }
  const status = message.readUInt32BE(24);
  if (status !== 0) return refused(`Unexpected message status ${status}`);
  const { procedure } = header;
  if (procedure < 1 || procedure > 8) return refused(`unknown procedure: ${procedure}`);

  let at = type === 4 ? 32 : 28;
  const call = { kind: 'call' as const, header, procedure, path: '', name: '', flags: 0, id: 0, pid: 0 };
  try {
    const word = (): number => message.readUInt32BE((at += 4) - 4);
    const text = (): string => {
      const length = word();
      const end = at + Math.ceil(length / 4) * 4;
      if (length > STRING_MOST || end > message.length) throw new RangeError();
      const value = message.toString('latin1', at, at + length).split('\0')[0] ?? '';
      at = end;
      return value;
    };
    if (procedure === 1) {
      at += 16;
      text();
      call.id = word();
      call.pid = word();
    } else if (procedure !== 2) {
      call.path = text();
      if (procedure >= 4 && procedure <= 7) call.name = text();
    }
    if (procedure !== 8) call.flags = word();
  } catch (error) {
    if (error instanceof RangeError) return refused('Unable to decode message payload');
    throw error;
  }
  return call;
}

export function errorReply(header: CallHeader, code: number, domain: number, detail: string, open: boolean): Expected {
  return { kind: 'reply', header, error: { code, domain, message: (PREFIXES[code] ?? '') + detail, open } };
}

/** What is wrong with a message as the answer that is expected, or null. The error's every field is looked at. */
export function mismatch(message: Buffer, expected: Expected): string | null {
  const header = headerOf(message);
  const type = message.readInt32BE(16);
  const status = message.readInt32BE(24);
  if (expected.kind === 'closed') return `a reply to serial ${header.serial} where the connection was to be closed`;
  if (expected.kind === 'pong') {
    const right =
      message.length === 28 && header.program === KEEPALIVE && header.version === 1 && header.procedure === 2;
    return right && type === 2 && header.serial === 0 && status === 0 ? null : `no pong: ${message.toString('hex')}`;
  }
  for (const key of ['program', 'version', 'procedure', 'serial'] as const) {
    if (header[key] !== expected.header[key]) return `${key} ${header[key]}, not ${expected.header[key]}`;
  }
  if (type !== 1) return `type ${type}`;
  if (status === 0) {
    if (message.length !== 28) return `a success of ${message.length} bytes`;
    return expected.kind === 'any' || expected.error === null ? null : `success, not '${expected.error.message}'`;
  }
  if (status !== 1) return `status ${status}`;
  let error: ReturnType<typeof parseError>;
  try {
    error = parseError(message);
  } catch (problem) {
    return `malformed error: ${(problem as Error).message}`;
  }
  if (expected.kind === 'any') return null;
  const got = `error ${error.code}/${error.domain} '${error.message}'`;
  if (expected.error === null) return `${got}, not success`;
  const { code, domain, message: text, open } = expected.error;
  const same = open ? error.message.startsWith(text) : error.message === text;
  return error.code === code && error.domain === domain && same ? null : `${got}, not ${code}/${domain} '${text}'`;
}

function parseError(message: Buffer): { code: number; domain: number; message: string } {
  let at = 28;
  const word = (): number => message.readUInt32BE((at += 4) - 4);
  const optional = (): string | null => {
    const present = word();
    if (present > 1) throw new Error(`presence ${present}`);
    if (present === 0) return null;
    const length = word();
    const end = at + Math.ceil(length / 4) * 4;
    if (end > message.length) throw new Error(`a string of ${length} bytes`);
    const value = message.toString('latin1', at, at + length);
    at = end;
    return value;
  };
  const code = word();
  const domain = word();
  const text = optional();
  if (text === null) throw new Error('no message');
  if (word() !== 2) throw new Error('level');
  if (word() !== 0) throw new Error('a domain object');
  const str1 = optional();
  const str2 = optional();
  if (optional() !== null) throw new Error('str3');
  const int1 = word() | 0;
  const int2 = word() | 0;
  if (word() !== 0) throw new Error('a network object');
  if (at !== message.length) throw new Error(`${message.length - at} bytes behind the end`);
  if (str1 === null || str2 === null) throw new Error('no str1 or str2');
  const prefix = code === 8 ? null : (PREFIXES[code] ?? '');
  if (prefix !== null) {
    if (text !== prefix + str2) throw new Error(`message '${text}', str2 '${str2}'`);
    if (code === 38 ? int1 <= 0 : int1 !== -1) throw new Error(`int1 ${int1}`);
    if (int2 !== -1) throw new Error(`int2 ${int2}`);
  }
  return { code, domain, message: text };
}
