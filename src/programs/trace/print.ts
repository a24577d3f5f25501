/** Formats events as lines of text or JSON. */
import { ErrorCode, ErrorDomain } from '../../../xdr/error.ts';
import { MessageStatus } from '../../../xdr/frame.ts';
import type { Decoded, Peer, Side, Stamp, TraceEvent, Undecoded } from './events.ts';
import { flagNames } from './programs.ts';
import type { Plain } from './walk.ts';

/** At most this many undecoded bytes are shown in text. JSON has all. */
const MAX_HEX = 64;

const DAY_MICROS = 86_400_000_000;

/** One line, without a newline. */
export function textLine(event: TraceEvent): string {
  const { time, connection, peer } = event;
  return `${clock(time)} #${connection} ${who(peer)} ${what(event)}`;
}

function what(event: TraceEvent): string {
  switch (event.kind) {
    case 'open':
      return event.peer.uid < 0 ? 'opened' : `opened by uid ${event.peer.uid} gid ${event.peer.gid}`;
    case 'close':
      return 'closed';
    case 'end':
      return `${arrow(event.from)} end: the ${event.from} sends no more`;
    case 'note':
      return `note: ${event.text}`;
    case 'descriptors':
      return `${arrow(event.from)} ${event.count} ${event.count === 1 ? 'descriptor' : 'descriptors'} attached`;
    case 'undecoded':
      return `${arrow(event.from)} ${hex(event.undecoded)}`;
    case 'message':
      return `${arrow(event.from)} ${messageText(event.message)}`;
  }
}

function messageText(message: Decoded): string {
  const { form, name, serial, type, status, payload, isError, descriptors, tookMicros, undecoded } = message;
  const parts = [form === 'other' ? `type ${type}` : form, form === 'event' ? name : `${serial} ${name}`];
  if (isError) parts.push(errorText(payload));
  else {
    if (form === 'reply') parts.push('ok');
    else if (status !== MessageStatus.OK) parts.push(`status=${status}`);
    if (payload !== undefined && payload !== null) parts.push(fields(payload, name));
  }
  if (descriptors > 0) parts.push(`with ${descriptors} ${descriptors === 1 ? 'descriptor' : 'descriptors'}`);
  if (tookMicros !== undefined) parts.push(`(${(tookMicros / 1000).toFixed(3)} ms)`);
  if (undecoded !== undefined) parts.push(`+ ${hex(undecoded)}`);
  return parts.filter((part) => part !== '').join(' ');
}

const NAMES = {
  code: new Map(Object.entries(ErrorCode).map(([name, number]) => [number as number, name])),
  domain: new Map(Object.entries(ErrorDomain).map(([name, number]) => [number as number, name])),
};

/** An error's code, domain and message. Its other fields repeat the message. */
function errorText(payload: Plain | undefined): string {
  if (payload === null || typeof payload !== 'object' || Array.isArray(payload)) return 'error';
  const { code = null, domain = null, message = null, int1 = null } = payload;
  const named = (value: Plain, names: ReadonlyMap<number, string>): string => {
    const name = names.get(Number(value));
    return name === undefined ? plain(value) : `${plain(value)} ${name}`;
  };
  const errno = Number(code) === ErrorCode.SYSTEM_ERROR ? ` errno ${plain(int1)}` : '';
  return `error ${named(code, NAMES.code)}${errno}, domain ${named(domain, NAMES.domain)}: ${plain(message)}`;
}

/** The outermost struct without its braces. */
function fields(value: Plain, name: string): string {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return plain(value);
  return Object.entries(value)
    .map(([key, field]) => {
      const flags = key === 'flags' ? flagNames(name, Number(field)) : '';
      return `${key}=${plain(field)}${flags === '' ? '' : `(${flags})`}`;
    })
    .join(' ');
}

function plain(value: Plain): string {
  if (typeof value === 'string') return `"${value.replaceAll('"', '\\"')}"`;
  if (value === null) return '-';
  if (Array.isArray(value)) return `[${value.map(plain).join(', ')}]`;
  if (typeof value === 'object') return `{${fields(value, '')}}`;
  return String(value);
}

function hex({ bytes, reason }: Undecoded): string {
  const shown = bytes
    .subarray(0, MAX_HEX)
    .toString('hex')
    .replaceAll(/..(?=.)/g, '$& ');
  const more = bytes.length > MAX_HEX ? ` and ${bytes.length - MAX_HEX} more` : '';
  return `${bytes.length} bytes undecoded (${reason}): ${shown}${more}`;
}

function arrow(from: Side): string {
  return from === 'client' ? '->' : '<-';
}

function who({ pid, program }: Peer): string {
  const name = program.replaceAll(/[^!-~]/g, '?');
  if (pid < 0) return name === '' ? '-' : name;
  return name === '' ? String(pid) : `${pid}/${name}`;
}

/** The time of day, in local time if the day is known. */
function clock({ micros, isAbsolute }: Stamp): string {
  if (Number.isNaN(micros)) return '-';
  const shift = isAbsolute ? new Date(micros / 1000).getTimezoneOffset() * 60_000_000 : 0;
  const ofDay = (((micros - shift) % DAY_MICROS) + DAY_MICROS) % DAY_MICROS;
  const seconds = Math.floor(ofDay / 1_000_000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const fraction = String(Math.floor(ofDay % 1_000_000)).padStart(6, '0');
  return `${parts.map((part) => String(part).padStart(2, '0')).join(':')}.${fraction}`;
}

/** One JSON object, with bytes in hex. */
export function jsonLine(event: TraceEvent): string {
  const { time, connection, peer, kind } = event;
  const common = { time: jsonTime(time), connection, kind, peer: known(peer) };
  return JSON.stringify({ ...common, ...jsonDetails(event) });
}

function jsonDetails(event: TraceEvent): object {
  switch (event.kind) {
    case 'open':
    case 'close':
      return {};
    case 'end':
      return { from: event.from };
    case 'note':
      return { text: event.text };
    case 'descriptors':
      return { from: event.from, count: event.count };
    case 'undecoded':
      return { from: event.from, undecoded: jsonUndecoded(event.undecoded) };
    case 'message': {
      const { payload, undecoded, tookMicros, isError, form, descriptors, ...rest } = event.message;
      const key = isError ? 'error' : form === 'reply' ? 'result' : form === 'call' ? 'arguments' : 'payload';
      return {
        ...{ from: event.from, form, ...rest, descriptors },
        ...(payload === undefined ? {} : { [key]: payload }),
        ...(tookMicros === undefined ? {} : { tookMicros }),
        ...(undecoded === undefined ? {} : { undecoded: jsonUndecoded(undecoded) }),
      };
    }
  }
}

function jsonUndecoded({ bytes, reason }: Undecoded): object {
  return { reason, hex: bytes.toString('hex') };
}

function known({ pid, uid, gid, program }: Peer): object {
  return {
    ...(pid < 0 ? {} : { pid }),
    ...(uid < 0 ? {} : { uid }),
    ...(gid < 0 ? {} : { gid }),
    ...(program === '' ? {} : { program }),
  };
}

function jsonTime(time: Stamp): string | null {
  if (Number.isNaN(time.micros)) return null;
  if (!time.isAbsolute) return clock(time);
  const iso = new Date(Math.floor(time.micros / 1000)).toISOString();
  return `${iso.slice(0, -1)}${String(Math.floor(time.micros % 1000)).padStart(3, '0')}Z`;
}
