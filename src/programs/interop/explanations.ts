/** Why a check of a C daemon fails: every failure has to have one of these behind it. */
import type { DaemonKind } from '../../lab/generation.ts';
import { type Cell, type Check, type Column, partsOf } from './model.ts';

export interface Explanation {
  /** defect: the daemon does wrong. release: it does what its own release does, which another release does differently. */
  readonly kind: 'defect' | 'release';
  readonly text: string;
}

interface Rule extends Explanation {
  readonly applies: (check: Check, row: DaemonKind, column: Column) => boolean;
}

const status = (lines: readonly string[] = []): string => lines[0] ?? '';
const complains = (lines: readonly string[] = []): boolean =>
  lines.some((l) => l.startsWith('error: invalid argument: '));
const mentions = (check: Check, text: string): boolean =>
  [...(check.expected ?? []), ...(check.seen ?? [])].some((line) => line.includes(text));
const ofAdmin = (column: Column): boolean => partsOf(column).family === 'virt-admin';

const rules: readonly Rule[] = [
  {
    kind: 'defect',
    text: 'Exits at SIGUSR1, and every lock is lost: it closes its listening sockets before it writes its state, and fails on them.',
    applies: ({ name }, row, column) =>
      row === '7.0.0' && (column === 'restart' || (name === 'daemon/reexec' && partsOf(column).family === 'libvirtd')),
  },
  {
    kind: 'release',
    text: 'Procedures came with later releases: 19 (daemon-timeout) after 7.0.0, 20 (daemon-shutdown) after 9.0.0.',
    applies: (check, _, column) => ofAdmin(column) && mentions(check, 'error: unknown procedure: '),
  },
  {
    kind: 'release',
    text: '7.0.0 puts its directory before a relative path of a log file and leaves the rest as it came; later releases make paths canonical.',
    applies: (check, _, column) => ofAdmin(column) && mentions(check, '/virtlockd-test.log'),
  },
  {
    kind: 'release',
    text: 'The same mistake is refused in other words: texts of errors change from release to release.',
    applies: ({ expected, seen }, _, column) =>
      ofAdmin(column) && status(expected) === status(seen) && complains(expected) && complains(seen),
  },
];

/** What explains a failure, or undefined. Nothing does where it is this project's daemon that fails. */
export function explain(check: Check, { row, column }: Pick<Cell, 'row' | 'column'>): Explanation | undefined {
  if (row === 'ours') return undefined;
  // The rules first: what the suite knows of C at large is not what a daemon dies of that never came so far.
  const rule = rules.find(({ applies }) => applies(check, row, column));
  if (rule !== undefined || check.known === undefined) return rule;
  return { kind: 'defect', text: check.known };
}
