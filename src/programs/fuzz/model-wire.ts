/** The wire as the model reads it: a second, plainer parser than xdr/, so that the two share no mistake. */

interface CallHeader {
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly serial: number;
}

/** How two daemons' answers are compared; `nothing` where the answer races with another connection's end. */
export type Compared = 'bytes' | 'status' | 'nothing';

interface Answer {
  readonly header: CallHeader;
  /** The number of data bytes, of the call's descriptors, that come back behind an error. */
  readonly tail?: number;
  readonly compared?: Compared;
  /** Returns the fault of a success's payload, or null. Without it the payload must be empty. */
  readonly check?: (payload: Words) => string | null;
}

/** The answer that must come. */
export type Expected =
  | { readonly kind: 'closed' }
  | { readonly kind: 'pong' }
  /** Any reply to this call. */
  | ({ readonly kind: 'any' } & Answer)
  | ({
      readonly kind: 'reply';
      /** Null for success. `open`: the text only begins with the message. */
      readonly error: {
        readonly code: number;
        readonly domain: number;
        readonly message: string;
        readonly open: boolean;
      } | null;
    } & Answer);

/** Reads one XDR value after another. @throws RangeError at the end of the bytes, and for what is too long */
export class Words {
  private readonly bytes: Buffer;
  private at: number;

  constructor(bytes: Buffer, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  word(): number {
    const value = this.bytes.readUInt32BE(this.at);
    this.at += 4;
    return value;
  }

  wide(): bigint {
    const value = this.bytes.readBigUInt64BE(this.at);
    this.at += 8;
    return value;
  }

  /** A number of 64 bits that must be small enough for a double. */
  count(): number {
    const value = this.wide();
    if (value > 0x1fffffffffffffn) throw new RangeError('large');
    return Number(value);
  }

  skip(length: number): void {
    if (length > this.left) throw new RangeError('short');
    this.at += length;
  }

  /** A string up to its first NUL, where it ends for C. */
  text(limit: number): string {
    const length = this.word();
    if (length > limit) throw new RangeError('long');
    const start = this.at;
    this.skip(length + (-length & 3));
    const text = this.bytes.toString('latin1', start, start + length);
    const nul = text.indexOf('\0');
    return nul < 0 ? text : text.slice(0, nul);
  }

  optional<T>(read: () => T): T | null {
    return this.word() === 0 ? null : read();
  }

  list<T>(limit: number, read: () => T): T[] {
    const items: T[] = [];
    let count = this.word();
    if (count > limit) throw new RangeError('long');
    while (count-- > 0) items.push(read());
    return items;
  }
}

/** The arguments of a call of the lock program. */
export interface LockCall {
  readonly path: string;
  readonly name: string;
  readonly flags: number;
  readonly id: number;
  readonly pid: number;
}

/** A message that is a call, up to its arguments. */
export interface Head {
  readonly header: CallHeader;
  /** Descriptors that came with it. */
  readonly carried: number;
  readonly words: Words;
  /** The error before any procedure, or null. */
  readonly refused: string | null;
}

/** A program of a server, with the number of its procedures. */
export interface ServedProgram {
  readonly number: number;
  readonly procedures: number;
}

export const pong: Expected = { kind: 'pong' };

const KEEPALIVE = 0x6b656570;
const UNDESCRIBED = 'Library function returned error but did not set virError';
const MAX_LENGTH = 32 * 1024 * 1024 + 4;
const MAX_STRING = 65536;
const PREFIXES: Readonly<Record<number, string>> = {
  1: 'internal error: ',
  8: 'invalid argument: ',
  29: 'operation forbidden: ',
  74: 'argument unsupported: ',
  55: 'Requested operation is not valid: ',
  87: 'resource busy: ',
  95: 'Server not found: ',
  96: 'Client not found: ',
};

/** Cuts a connection's bytes into messages. */
export class Stream {
  private bytes: Buffer = Buffer.alloc(0);
  /** Descriptors still to come for the message that waits in `bytes`. */
  private awaited = 0;

  /** No message is half received. */
  get isEmpty(): boolean {
    return this.bytes.length === 0 && this.awaited === 0;
  }

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
      if (length <= 4 || length > MAX_LENGTH) {
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

export function pingMessage(): Buffer {
  const message = Buffer.alloc(28);
  for (const [index, word] of [28, KEEPALIVE, 1, 1, 2, 0, 0].entries()) message.writeUInt32BE(word, index * 4);
  return message;
}

export function isPing(message: Buffer): boolean {
  const { program, version, procedure } = headerOf(message);
  return program === KEEPALIVE && version === 1 && procedure === 1 && message.readInt32BE(16) === 2;
}

/** The call in a message; null for another message, which a daemon drops. */
export function parseHead(message: Buffer, programs: readonly ServedProgram[]): Head | null {
  const header = headerOf(message);
  const type = message.readInt32BE(16);
  if (type !== 0 && type !== 4) return null;
  const carried = type === 4 ? message.readUInt32BE(28) : 0;
  const words = new Words(message, type === 4 ? 32 : 28);
  const program = programs.find(({ number }) => number === header.program);
  const status = message.readUInt32BE(24);
  const { procedure } = header;
  let refused: string | null = null;
  if (program === undefined || header.version !== 1) {
    refused = `Cannot find program ${header.program | 0} version ${header.version | 0}`;
  } else if (status !== 0) refused = `Unexpected message status ${status}`;
  else if (procedure < 1 || procedure > program.procedures) refused = `unknown procedure: ${procedure}`;
  return { header, carried, words, refused };
}

/** The arguments of a call of the lock program. @throws RangeError */
export function parseLockCall(procedure: number, words: Words): LockCall {
  const call = { path: '', name: '', flags: 0, id: 0, pid: 0 };
  if (procedure === 1) {
    words.skip(16);
    words.text(MAX_STRING);
    call.id = words.word();
    call.pid = words.word();
  } else if (procedure !== 2) {
    call.path = words.text(MAX_STRING);
    if (procedure >= 4 && procedure <= 7) call.name = words.text(MAX_STRING);
  }
  if (procedure !== 8) call.flags = words.word();
  return call;
}

export function errorReply(
  header: CallHeader,
  error: { readonly code: number; readonly domain: number; readonly detail: string; readonly open: boolean },
): Expected {
  const { code, domain, detail, open } = error;
  // Flags are reported without the prefix of their code.
  const prefix = code === 8 && detail.startsWith('unsupported flags') ? '' : (PREFIXES[code] ?? '');
  return { kind: 'reply', header, error: { code, domain, message: prefix + detail, open } };
}

/** The error for arguments that cannot be decoded, and for every other fault before a procedure. */
export function dispatchRefusal(header: CallHeader, detail: string, carried: number): Expected {
  return { kind: 'reply', header, tail: carried, error: { code: 39, domain: 7, message: detail, open: false } };
}

/** The fault of a message as the expected answer, or null. Every field of an error is checked. */
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
    if (expected.kind === 'reply' && expected.error !== null) return `success, not '${expected.error.message}'`;
    const payload = new Words(message, 28);
    try {
      const wrong = expected.check?.(payload) ?? null;
      if (wrong !== null) return wrong;
    } catch (problem) {
      if (!(problem instanceof RangeError)) throw problem;
      return `malformed result: ${message.toString('hex')}`;
    }
    return payload.left === 0 ? null : `${payload.left} bytes behind the result`;
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

/** Parses and checks the whole error in a reply. @throws Error */
function parseError(message: Buffer): { code: number; domain: number; message: string } {
  const words = new Words(message, 28);
  const optional = (): string | null => {
    const present = words.word();
    if (present > 1) throw new Error(`presence ${present}`);
    return present === 0 ? null : words.text(message.length);
  };
  const code = words.word();
  const domain = words.word();
  const text = optional();
  if (text === null) throw new Error('no message');
  if (words.word() !== 2) throw new Error('level');
  if (words.word() !== 0) throw new Error('a domain object');
  const str1 = optional();
  const str2 = optional();
  if (optional() !== null) throw new Error('str3');
  const int1 = words.word() | 0;
  const int2 = words.word() | 0;
  if (words.word() !== 0) throw new Error('a network object');
  if (words.left !== 0) throw new Error(`${words.left} bytes behind the end`);
  // C's answer when one of its functions failed without an error.
  if (text === UNDESCRIBED && str1 === null && str2 === null) return { code, domain, message: text };
  if (str1 === null || str2 === null) throw new Error('no str1 or str2');
  if (!(code === 8 && text.startsWith('unsupported flags'))) {
    const prefix = PREFIXES[code] ?? '';
    if (text !== prefix + str2) throw new Error(`message '${text}', str2 '${str2}'`);
    if (code === 38 ? int1 <= 0 : int1 !== -1) throw new Error(`int1 ${int1}`);
    if (int2 !== -1) throw new Error(`int2 ${int2}`);
  }
  return { code, domain, message: text };
}
