/**
 * The answers of the children that prove a successor: of `--check-state` (programs/virtlockd/check-state.ts), which successor.ts
 * reads, and of the one that foresees a C daemon's start (check-c-start.ts there), which c-successor.ts reads.
 */
import type { ByteString } from '../../xdr/codec.ts';
import type { LockKind } from '../posix/record-lock.ts';
import type { Identities } from './build.ts';
import type { Loss } from './rehearse.ts';

/** First line, whether the document is good or bad; no other program prints it by chance. Also in programs/start.cjs. */
export const CHECK_BANNER = 'virtlockd state document check 1';
/** Exit status for a document that cannot be read. */
export const CHECK_FAILED = 3;
/** Set in the environment of a child that is to print its report as well, and the banner also before its version. */
export const REPORT_VARIABLE = 'VIRTLOCKD_CHECK_REPORT';

export interface Report {
  readonly identities: Identities;
  readonly losses: readonly Loss[];
  /** The kinds of locks that it can adopt; absent from releases that know POSIX locks only. */
  readonly locks?: readonly LockKind[];
  /** It can go on with storage helpers. */
  readonly storage?: true;
  /** It can go on with locks in etcd. */
  readonly etcd?: true;
}

/** Of this release. */
export const KNOWN_LOCKS: readonly LockKind[] = ['posix', 'ofd'];

export function knowsOfdLocks({ report }: Answer): boolean {
  return report?.locks?.includes('ofd') === true;
}

export interface Answer {
  /** The words that its launcher executes: the runtime and its arguments, up to the path of the program. */
  readonly command: readonly [ByteString, ...ByteString[]];
  /** Absent from programs that are older than builds. */
  readonly report?: Report;
}

export function wantsReport(): boolean {
  return process.env[REPORT_VARIABLE] !== undefined;
}

/** The output after the banner for a good document. */
export function formatAnswer(command: readonly string[], report?: Report): string {
  const lines = report === undefined ? [command] : [command, report];
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}

/** Null when it is malformed. */
export function parseAnswer(text: ByteString): Answer | null {
  try {
    const [first = '', second] = text.trim().split('\n');
    const words = JSON.parse(first) as unknown;
    if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) return null;
    const [file, ...rest] = words;
    if (file === undefined) return null;
    const command = [file, ...rest] as const;
    // A program that prints the banner is of our kind, and its report well-formed.
    if (second === undefined) return { command };
    return { command, report: JSON.parse(Buffer.from(second, 'latin1').toString('utf8')) as Report };
  } catch {
    return null;
  }
}

/** The question to the child that foresees a C daemon's start. */
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

/** The foreseen start, for further checks by the daemon itself. */
export interface CStartOutlook {
  /** Inode keys of its configuration and its log files. It closes them again, which drops the lock of one that is held. */
  readonly opened: readonly string[];
  /** The number of those that stay open. */
  readonly logFiles: number;
  /** Seconds after which it ends without a client, although it holds locks; 0 never. */
  readonly timeout: number;
}

/** A line of the child's answer: the file that it is about to open; at last the outlook, or why the C daemon would end. */
export type CStartAnswer =
  { readonly begin: ByteString } | { readonly outlook: CStartOutlook } | { readonly failure: string };

/** The child's descriptor for its answer: the standard streams are the daemon's, which may be named as log files. */
export const ANSWERS = 3;
