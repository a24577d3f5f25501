/** Parses lines of strace's output, for any of its options. */
import type { Stamp } from './events.ts';

export interface SystemCall {
  /** The thread's; -1 without strace's -f. */
  readonly pid: number;
  /** The start of the call, or its end if lines of other calls are in between. */
  readonly time: Stamp;
  readonly name: string;
  /** Between the parentheses. */
  readonly args: string;
  /** Negative when the call failed. */
  readonly result: number;
}

const PREFIX = /^\s*(?:\[pid\s+(\d+)\]\s+|(\d+)\s+)?(?:(\d+):(\d+):(\d+(?:\.\d+)?)\s+|(\d+\.\d+)\s+)?(.*)$/s;
const CALL = /^(\w+)\((.*)\)\s+= (-?\d+|0x[0-9a-f]+|\?)(?:[<\s].*)?$/s;
const UNFINISHED = /^(\w+)\((.*?)\s*<unfinished \.\.\.>$/s;
const RESUMED = /^<\.\.\. (\w+) resumed>\s?(.*)$/s;

/** Relative times, as of strace's -r, are smaller. */
const FIRST_DATE = 1e8;

export class StraceLines {
  /** Unfinished calls, by pid. */
  private readonly unfinished = new Map<number, { name: string; args: string }>();
  private elapsed = 0;

  /** The call that ends on this line, if one does. */
  parse(line: string): SystemCall | undefined {
    const [, inBrackets, plain, hours, minutes, seconds, decimal, rest = ''] = PREFIX.exec(line) ?? [];
    const pid = Number(inBrackets ?? plain ?? -1);
    const time = this.stamp(hours, minutes, seconds, decimal);
    const begun = UNFINISHED.exec(rest);
    if (begun !== null) {
      const [, name = '', args = ''] = begun;
      this.unfinished.set(pid, { name, args });
      return undefined;
    }
    const [, resumed, tail = ''] = RESUMED.exec(rest) ?? [];
    let text = rest;
    if (resumed !== undefined) {
      const start = this.unfinished.get(pid);
      this.unfinished.delete(pid);
      if (start?.name !== resumed) return undefined;
      text = `${resumed}(${start.args}${tail}`;
    }
    const [, name, args = '', result = ''] = CALL.exec(text) ?? [];
    return name === undefined ? undefined : { pid, time, name, args, result: result === '?' ? -1 : Number(result) };
  }

  private stamp(hours?: string, minutes?: string, seconds?: string, decimal?: string): Stamp {
    if (hours !== undefined) {
      const ofDay = Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
      return { micros: Math.round(ofDay * 1e6), isAbsolute: false };
    }
    if (decimal === undefined) return { micros: NaN, isAbsolute: false };
    const value = Math.round(Number(decimal) * 1e6);
    if (value >= FIRST_DATE * 1e6) return { micros: value, isAbsolute: true };
    this.elapsed += value;
    return { micros: this.elapsed, isAbsolute: false };
  }
}

/** The first argument as a descriptor, with or without the path that -y adds; -1 if it is none. */
export function descriptorIn(args: string): number {
  return Number(/^\d+/.exec(args)?.[0] ?? -1);
}

interface Quoted {
  readonly bytes: Buffer;
  /** strace has cut off the end (-s). */
  readonly isCut: boolean;
}

/** The strings among the arguments; with a `label` (`iov_base=`, `sun_path=`) those behind it. */
export function stringsIn(args: string, label = ''): Quoted[] {
  const found: Quoted[] = [];
  for (const [, before = '', content = '', dots] of args.matchAll(/(\w+=|)@?"((?:[^"\\]|\\.)*)"(\.\.\.)?/gs)) {
    if (label === '' || before === label) found.push({ bytes: unescape(content), isCut: dots !== undefined });
  }
  return found;
}

const ESCAPES: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, v: 11, f: 12, a: 7, b: 8 };

function unescape(content: string): Buffer {
  // With -xx all is hex.
  if (/^(?:\\x[0-9a-f]{2})*$/.test(content)) return Buffer.from(content.replaceAll('\\x', ''), 'hex');
  const bytes = Buffer.alloc(content.length);
  let length = 0;
  for (const [, hex, octal, letter, plain] of content.matchAll(/\\(?:x([0-9a-f]{2})|([0-7]{1,3})|(.))|([^\\])/gs)) {
    if (hex !== undefined) bytes[length++] = parseInt(hex, 16);
    else if (octal !== undefined) bytes[length++] = parseInt(octal, 8);
    else if (letter !== undefined) bytes[length++] = ESCAPES[letter] ?? letter.charCodeAt(0);
    else bytes[length++] = (plain ?? '').charCodeAt(0);
  }
  return bytes.subarray(0, length);
}
