/** What a check is, and what comes of one. */
import type { CheckContext } from './check-context.ts';
import type { Exchange } from './exchange/script.ts';

export const groups = [
  'wire',
  'lockd',
  'lockspace',
  'ownership',
  'limits',
  'admin',
  'restart',
  'command-line',
  'inquire',
] as const;
export type Group = (typeof groups)[number];

interface Common {
  /** `group/what-it-is`; never changes, for people select and compare by it. */
  readonly name: string;
  readonly group: Group;
  /** One sentence: what the interface promises. */
  readonly promise: string;
  /** May be made of somebody else's daemon: it only reads, or leaves nothing behind. */
  readonly harmless?: boolean;
  /** Why it cannot be made by an ordinary user of that user's own session daemon. */
  readonly rootOnly?: string;
}

/** A recorded exchange: it passes when its transcript is the one that is right for the daemon's generation. */
export interface ExchangeCheck extends Common {
  readonly exchange: Exchange;
}

/** A check written out: it passes when it throws nothing. */
export interface WrittenCheck extends Common {
  readonly run: (context: CheckContext) => Promise<void>;
  /** A defect that C daemons are known for and that fails this check: said beside the failure. */
  readonly known?: string;
  /** In ms; default: `patience` of run.ts. */
  readonly limit?: number;
}

export type Check = ExchangeCheck | WrittenCheck;

/** Thrown by a check that cannot be made here; the message says why. */
export class Skipped extends Error {}

export type Verdict = 'pass' | 'fail' | 'skip';

export interface Result {
  readonly name: string;
  readonly group: Group;
  readonly promise: string;
  readonly verdict: Verdict;
  /** Why it failed or was skipped, in a line or more. */
  readonly detail?: string;
  /** The defect that explains the failure, where it is one that such daemons are known for. */
  readonly known?: string;
  /** What should have been seen, for an exchange that was played or a comparison. */
  readonly expected?: readonly string[];
  /** The exchange as it went, a message or an event a line. */
  readonly seen: readonly string[];
  /** How long it took, in ms. */
  readonly time: number;
}

/** The end of a check's name, of any title: lower case, digits and dashes. */
export function slug(title: string): string {
  return title
    .toLowerCase()
    .replace(/ -(?=\d)/g, ' minus-')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}
