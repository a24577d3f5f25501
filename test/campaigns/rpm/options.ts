/** The command line of `npm run rpm`. */
import { listOf, parseCommandLine, UsageError, wholeNumber } from '../../../src/lab/command-line.ts';
import { type Step, STEPS } from '../../package/rpm/host.ts';

export interface Options {
  /** Those that are interrupted; the others are only taken. */
  readonly steps: readonly Step[];
  /** The numbers of the scriptlets and commands at which rpm is killed; empty: all. */
  readonly points: readonly number[];
  /** How many of these, by chance; 0: all. */
  readonly sample: number;
  readonly seed: number;
  /** A Debian 13 with libvirt-daemon-lock and rpm; `/`: this machine. */
  readonly tree: string;
  /** The words of the command that is rpm. */
  readonly rpm: readonly string[];
  readonly json: string | undefined;
  readonly help: boolean;
}

export const usage = `Usage: npm run rpm -- [OPTION]...

Our RPM package is installed, upgraded and removed under a C daemon with locks, and so is libvirt's, for which stand-ins hold the C daemon
of this machine. rpm and the script that runs are killed at every scriptlet, ours and libvirt's, and at every command by which one changes
anything. Each time the same process must run with all its locks and serve, and /usr/sbin/virtlockd must be a lock daemon's program. Then the
same command of rpm runs again, and must leave what it leaves when nobody interrupts it. Needs root, libvirt 9.0.0 and Debian's rpm.

  --steps LIST   interrupt these alone, separated by commas:
                 ${STEPS.join(', ')}
  --points LIST  at these scriptlets and commands alone, by their numbers from 1
  --sample N     at N of them in each step, by chance
  --seed N       the same ones for the same seed (1)
  --tree DIR     in a Debian 13 with libvirt-daemon-lock (11.3.0) and an rpm of its own, in place of this machine
  --rpm COMMAND  with another rpm: a command that ends in a program named rpm, outside /tmp and /run
  --json FILE    write the report as JSON; - is standard output, in place of the text
  -h, --help     print this

Exit status: 0 nothing lost, 1 something was, 2 wrong usage, 3 the run failed.
`;

const settings = {
  steps: { type: 'string', default: STEPS.join(',') },
  points: { type: 'string' },
  sample: { type: 'string', default: '0' },
  seed: { type: 'string', default: '1' },
  tree: { type: 'string', default: '/' },
  rpm: { type: 'string', default: 'rpm' },
  json: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  const { steps, points, sample, seed, tree, rpm, json, help } = values;
  if (points !== undefined && sample !== '0') throw new UsageError('--points and --sample exclude each other');
  return {
    steps: listOf('step', STEPS, steps),
    points: points === undefined ? [] : points.split(',').map((point) => wholeNumber('points', point, 1)),
    sample: wholeNumber('sample', sample),
    seed: wholeNumber('seed', seed),
    tree,
    rpm: rpm.split(' '),
    json,
    help,
  };
}
