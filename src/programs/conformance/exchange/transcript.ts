/** Bytes of the wire as readable lines; different bytes make different lines. */
import { createHash } from 'node:crypto';
import { type Message, adminProgram, decode, keepaliveProgram, lockProgram } from '../../../lab/wire.ts';

/** Values that differ from run to run, and that a transcript shows by name. */
export interface Variable {
  readonly dir: string;
  /** pid of this process */
  readonly own: number;
  readonly actors: ReadonlyMap<string, number>;
}

const types = ['CALL', 'REPLY', 'MESSAGE', 'STREAM', 'CALL_WITH_FDS', 'REPLY_WITH_FDS', 'STREAM_HOLE'];
const programs = new Map([
  [lockProgram, 'lock'],
  [adminProgram, 'admin'],
  [keepaliveProgram, 'keepalive'],
]);

/** Writes long runs of one pattern as a count: `x{65536}`, `(a/){3000}`. */
function shortened(text: string): string {
  return text
    .replace(/((?:[^\\/]\/){1,4}?)\1{15,}/g, (run, part: string) => `(${part}){${run.length / part.length}}`)
    .replace(/([^\\{}])\1{31,}/g, (run, one: string) => `${one}{${run.length}}`);
}

/** A text of the checker (a path, a row) with names for its variable values. */
export function masked(text: string, variable: Variable): string {
  let result = text.replaceAll(variable.dir, '@');
  for (const [name, pid] of variable.actors) result = result.replace(new RegExp(`\\b${pid}\\b`, 'g'), `<${name}>`);
  return result;
}

function quoted(bytes: Buffer, variable: Variable): string {
  return shortened(JSON.stringify(masked(bytes.toString('latin1'), variable)));
}

/** The string at an offset, if there can be one: a length, as many bytes, mostly printable, the first not zero, then padding. */
function stringAt(payload: Buffer, at: number): Buffer | undefined {
  const length = payload.readUInt32BE(at);
  const end = at + 4 + Math.ceil(length / 4) * 4;
  if (length === 0 || end > payload.length) return undefined;
  const bytes = payload.subarray(at + 4, at + 4 + length);
  const printable = bytes.reduce((count, byte) => count + (byte >= 32 && byte !== 127 ? 1 : 0), 0);
  if (bytes[0] === 0 || printable < length * 0.75) return undefined;
  return payload.subarray(at + 4 + length, end).every((byte) => byte === 0) ? bytes : undefined;
}

function number(word: number, before: string | undefined, variable: Variable): string {
  if (before === '"unix_process_id" 1' && word === variable.own) return '<test>';
  for (const [name, pid] of variable.actors) if (word === pid) return `<${name}>`;
  const now = Date.now() / 1000;
  if (word > now - 600 && word < now + 5) return '<now>';
  if (word >= 0xffff_f000) return String(word | 0);
  return word < 100_000 ? String(word) : `0x${word.toString(16)}`;
}

/** A payload as words and strings: bytes in the form of an XDR string are shown as one. */
function renderPayload(payload: Buffer, variable: Variable): string {
  const tokens: string[] = [];
  let at = 0;
  while (at + 4 <= payload.length) {
    const string = stringAt(payload, at);
    if (string === undefined) {
      const before = tokens.length < 2 ? undefined : tokens.slice(-2).join(' ');
      const word = payload.readUInt32BE(at);
      const token = number(word, before, variable);
      let same = 1;
      while (at + same * 4 + 4 <= payload.length && payload.readUInt32BE(at + same * 4) === word) same++;
      // Fewer than four equal words are clearer one by one.
      if (same < 4) same = 1;
      tokens.push(same === 1 ? token : `${token}*${same}`);
      at += same * 4;
    } else {
      tokens.push(quoted(string, variable));
      at += 4 + Math.ceil(string.length / 4) * 4;
    }
  }
  if (at < payload.length) tokens.push(`+${payload.toString('hex', at)}`);
  return shortened(tokens.join(' '));
}

export function renderMessage(message: Message, variable: Variable): string {
  const { program, version, procedure, type, serial, status, payload } = message;
  const words = [types[type] ?? `type:${type}`, programs.get(program) ?? `program:0x${program.toString(16)}`];
  if (version !== 1) words.push(`version:${version}`);
  words.push(String(procedure), `#${serial}`);
  if (status !== 0) words.push(status === 1 && type === 1 ? 'ERROR' : `status:${status}`);
  if (payload.length > 0) words.push('|', renderPayload(payload, variable));
  return words.join(' ');
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex').slice(0, 16);

/** The messages in bytes; a part of a message at the end is shown in hex. */
export function renderBytes(bytes: Buffer, variable: Variable): string[] {
  const lines: string[] = [];
  let rest = bytes;
  while (rest.length >= 28) {
    const length = rest.readUInt32BE(0);
    if (length < 28 || length > rest.length) break;
    lines.push(renderMessage(decode(rest.subarray(4, length)), variable));
    rest = rest.subarray(length);
  }
  if (rest.length > 0) {
    const hex =
      rest.length > 64
        ? `${rest.toString('hex', 0, 64)}… (${rest.length} bytes, ${digest(rest)})`
        : rest.toString('hex');
    lines.push(`bytes ${hex}`);
  }
  return lines;
}
