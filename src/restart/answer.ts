/** What `--check-state` prints: see programs/virtlockd/check-state.ts, which does, and successor.ts, which reads it. */
import type { ByteString } from '../../xdr/codec.ts';
import type { LockKind } from '../posix/record-lock.ts';
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
  /** The kinds of locks that it can take over; absent from releases that know POSIX locks only. */
  readonly locks?: readonly LockKind[];
}

/** Of this release. */
export const KNOWN_LOCKS: readonly LockKind[] = ['posix', 'ofd'];

export function knowsOfdLocks({ report }: Answer): boolean {
  return report?.locks?.includes('ofd') === true;
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
