/** The explanations of failed checks of C daemons: every such failure needs one. */
import type { DaemonKind } from '../../lab/generation.ts';
import { type Cell, type Check, type Column, partsOf } from './model.ts';

export interface Explanation {
  /** defect: the daemon is wrong. release: it is right for its own release, and another release differs. */
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

/** The explanation of a failure, or undefined. A failure of this project's daemon has none. */
export function explain(check: Check, { row, column }: Pick<Cell, 'row' | 'column'>): Explanation | undefined {
  if (row === 'ours') return undefined;
  // The rules first: a daemon that exits earlier does not fail by the suite's known defect.
  const rule = rules.find(({ applies }) => applies(check, row, column));
  if (rule !== undefined || check.known === undefined) return rule;
  return { kind: 'defect', text: check.known };
}
