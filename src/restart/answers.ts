/**
 * The answers of the children that prove a successor: of `--check-state` (programs/virtlockd/check-state.ts), which successor.ts
 * reads, and of the one that foresees a C daemon's start (check-c-start.ts there), which c-successor.ts reads.
 */
import type { ByteString } from '../../xdr/codec.ts';
import type { Identities } from './build.ts';
import type { Loss } from './rehearse.ts';

/** First line, whether the document is good or bad; nothing else prints it by chance. Also in programs/start.cjs. */
export const CHECK_BANNER = 'virtlockd state document check 1';
/** Exit status for a document that cannot be read. */
export const CHECK_FAILED = 3;
/** Set in the environment of a program that is asked for its report as well. */
export const REPORT_VARIABLE = 'VIRTLOCKD_CHECK_REPORT';

/** What a program of our kind tells of itself. */
export interface Report {
  readonly identities: Identities;
  readonly losses: readonly Loss[];
}

/** What a program says that can go on. */
export interface Answer {
  /** What its launcher executes: the runtime and its arguments, up to the path of the program. */
  readonly command: readonly [ByteString, ...ByteString[]];
  /** A program of before there were builds has none. */
  readonly report?: Report;
}

export function wantsReport(): boolean {
  return process.env[REPORT_VARIABLE] !== undefined;
}

/** What is printed behind the banner for a good document. */
export function formatAnswer(command: readonly string[], report?: Report): string {
  const lines = report === undefined ? [command] : [command, report];
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}

/** Null when it is nonsense. */
export function parseAnswer(text: ByteString): Answer | null {
  try {
    const [first = '', second] = text.trim().split('\n');
    const words = JSON.parse(first) as unknown;
    if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) return null;
    const [file, ...rest] = words;
    if (file === undefined) return null;
    const command = [file, ...rest] as const;
    // Whoever says the banner is one of us, and says it right.
    if (second === undefined) return { command };
    return { command, report: JSON.parse(Buffer.from(second, 'latin1').toString('utf8')) as Report };
  } catch {
    return null;
  }
}

/** What the child is asked that foresees a C daemon's start. */
export interface CStart {
  /** The words that it will be executed with. */
  readonly args: readonly ByteString[];
  /** Where its state will be. */
  readonly stateFile: ByteString;
  /** A file that holds it already. */
  readonly document: ByteString;
  /** The inode key of the pid file that is locked; null when there is none. */
  readonly pidFile: string | null;
}

/** What it opens, and more that the daemon itself must look at. */
export interface CStartOutlook {
  /** Inode keys of its configuration and its log files. It closes them again, which drops the lock of one that is held. */
  readonly opened: readonly string[];
  /** How many of them stay open. */
  readonly logFiles: number;
  /** Seconds after which it ends when nobody is connected, whatever is locked; 0 never. */
  readonly timeout: number;
}

/** A line of the child's answer: what it is about to look at; at the end what it found, or why the C daemon would end. */
export type CStartAnswer =
  { readonly begin: ByteString } | { readonly outlook: CStartOutlook } | { readonly failure: string };

/** The child's descriptor for its answer: the standard streams are the daemon's, which may be named as log files. */
export const ANSWERS = 3;
