/** A check, and the result of one. */
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
  /** `group/slug`. It never changes, because people select and compare by it. */
  readonly name: string;
  readonly group: Group;
  /** One sentence: what the interface promises. */
  readonly promise: string;
  /** May be made of a daemon that runs already: it only reads, or leaves nothing behind. */
  readonly harmless?: boolean;
  /** Why an ordinary user cannot make it of a session daemon. */
  readonly rootOnly?: string | undefined;
}

/** A recorded exchange: it passes when its transcript is the one that is right for the daemon's generation. */
export interface ExchangeCheck extends Common {
  readonly exchange: Exchange;
}

/** A check written out: it passes when it throws nothing. */
export interface WrittenCheck extends Common {
  readonly run: (context: CheckContext) => Promise<void>;
  /** The known defect of C daemons that fails this check; reported with the failure. */
  readonly known?: string | undefined;
  /** In ms; default: LIMIT_MS of run.ts. */
  readonly limit?: number | undefined;
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
  /** The known defect that explains the failure. */
  readonly known?: string | undefined;
  /** The right lines, of an exchange or a comparison. */
  readonly expected?: readonly string[];
  /** The exchange as it went: a message or an event a line. */
  readonly seen: readonly string[];
  /** How long it took, in ms. */
  readonly time: number;
}

/** The end of a check's name, from its title: lower case, digits and dashes. */
export function slug(title: string): string {
  return title
    .toLowerCase()
    .replace(/ -(?=\d)/g, ' minus-')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}

/** A check whose name comes from its title. */
export function writtenCheck(
  group: Group,
  title: string,
  promise: string,
  run: WrittenCheck['run'],
  more: Pick<WrittenCheck, 'harmless' | 'rootOnly' | 'known' | 'limit'> = {},
): WrittenCheck {
  return { name: `${group}/${slug(title)}`, group, promise, run, ...more };
}
