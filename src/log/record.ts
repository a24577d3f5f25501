/** One message, and its forms in the outputs. */

import { Level, levelName } from './levels.ts';
import { hex } from './printable.ts';

export interface LogRecord {
  readonly time: Date;
  readonly level: Level;
  readonly source: string;
  /** One line of bytes (latin1), with control bytes escaped. */
  readonly text: string;
  readonly caller: Caller | undefined;
  /** One of the two lines that open an output. Only journald gets its caller, as in C. */
  readonly isOpening?: true;
  /** For journald, if a client got the message as an error. */
  readonly code?: { readonly domain: number; readonly code: number } | undefined;
}

export interface Caller {
  readonly name: string;
  readonly file: string;
  readonly line: number;
}

/** `pid: level : function:line : text`, as in all textual outputs. */
export function recordText(record: LogRecord, pid: number): string {
  const from = record.caller === undefined || record.isOpening ? '' : `${record.caller.name}:${record.caller.line} : `;
  return `${pid}: ${levelName(record.level)} : ${from}${record.text}\n`;
}

/** `2026-11-22 14:51:06.101+0000`: UTC, whatever the time zone. */
export function timestamp(time: Date): string {
  return time.toISOString().replace('T', ' ').replace('Z', '+0000');
}

/** The severities of syslog(3), which journald calls PRIORITY. */
const SEVERITY: Readonly<Record<Level, number>> = {
  [Level.DEBUG]: 7,
  [Level.INFO]: 6,
  [Level.WARNING]: 4,
  [Level.ERROR]: 3,
};

/** LOG_DAEMON. */
const FACILITY = 3;

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** An RFC 3164 datagram as syslog(3) writes it: local time, no host name, no pid but the text's. */
export function syslogDatagram(record: LogRecord, identifier: string, pid: number): Buffer {
  const { time } = record;
  const two = (value: number): string => String(value).padStart(2, '0');
  const date = `${MONTHS[time.getMonth()] ?? ''} ${String(time.getDate()).padStart(2)}`;
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  const priority = FACILITY * 8 + SEVERITY[record.level];
  return Buffer.from(`<${priority}>${date} ${clock} ${identifier}: ${recordText(record, pid)}`, 'latin1');
}

/** A datagram in journald's native protocol, with the fields that libvirt sends. */
export function journalDatagram(record: LogRecord, identifier: string): Buffer {
  const fields: [string, string | number][] = [
    ['MESSAGE', record.text],
    ['PRIORITY', SEVERITY[record.level]],
    ['SYSLOG_FACILITY', FACILITY],
    // C does not send this: journald then takes the process's name, which here is the runtime's.
    ['SYSLOG_IDENTIFIER', identifier],
    ['LIBVIRT_SOURCE', record.source],
  ];
  if (record.caller !== undefined) {
    fields.push(
      ['CODE_FILE', record.caller.file],
      ['CODE_LINE', record.caller.line],
      ['CODE_FUNC', record.caller.name],
    );
  }
  if (record.code !== undefined) {
    fields.push(['LIBVIRT_DOMAIN', record.code.domain], ['LIBVIRT_CODE', record.code.code]);
  }
  return Buffer.concat(fields.map(([name, value]) => journalField(name, String(value))));
}

/** `NAME=value`, or with its length before it when the value has lines of its own. */
function journalField(name: string, value: string): Buffer {
  if (!value.includes('\n')) return Buffer.from(`${name}=${value}\n`, 'latin1');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(value.length));
  return Buffer.concat([Buffer.from(`${name}\n`, 'latin1'), length, Buffer.from(`${value}\n`, 'latin1')]);
}

/**
 * Escapes control bytes, so that a name from the wire can neither forge a line nor control a terminal; C prints them as they are.
 * Encodes characters above one byte as UTF-8, because a log is bytes.
 */
export function visibleText(text: string): string {
  if (!/[\0-\x1f\x7f\u0100-\uffff]/.test(text)) return text;
  const bytes = /[\u0100-\uffff]/.test(text) ? Buffer.from(text, 'utf8').toString('latin1') : text;
  return bytes.replace(/[\0-\x1f\x7f]/g, (byte) => (byte === '\n' ? '\\n' : hex(byte.charCodeAt(0))));
}
