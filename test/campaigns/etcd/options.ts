/** The command line of `npm run etcd:check`. */
import { join } from 'node:path';
import { oneOf, parseCommandLine, UsageError, wholeNumber } from '../../../src/lab/command-line.ts';
import { checkout } from '../../../src/lab/trees.ts';
import type { Subject } from './hosts.ts';
import { type FaultName, faultNames, faults } from './plan.ts';
import { breakages, faultsFor } from './breakages.ts';
import { standInFaults } from './stand-in-settings.ts';

export interface Options {
  readonly seed: number;
  /** How many at once, with this seed and the next ones. */
  readonly runs: number;
  readonly minutes: number;
  readonly leaseSeconds: number;
  readonly faults: readonly FaultName[];
  readonly subject: Subject;
  /** The name of a way to break the daemon. */
  readonly breakage: string | undefined;
  /** All ways to break it, one after the other. */
  readonly isSelfTest: boolean;
  readonly endsEarly: boolean;
  readonly json: string | undefined;
  readonly help: boolean;
}

export const usage = `Usage: npm run etcd:check -- [OPTION]...

Runs three members of etcd and three hosts with a lock daemon each, in network namespaces on one bridge. Owners on every host acquire
the same locks, which are kept in etcd, and append records to one file for each lock while they believe that they hold it: until they
are killed. Faults come from the seed, two at a time. Two writers at once, a lock that nobody can get after all faults have ended, and a
daemon that ends are findings. Wants root, etcd-server, etcd-client, iptables, iproute2, python3 and a C compiler.

  --seed N         the same seed makes the same faults (1)
  --minutes N      for so long (2); then all faults end, and every host must get every lock
  --runs N         so many at once, each with a cluster and hosts of its own: with the seed N, N + 1 and so on (1)
  --lease N        seconds (6)
  --faults LIST    only these, separated by commas:
${Object.entries(faults)
  .map(([name, what]) => `                   ${name.padEnd(14)}${what}`)
  .join('\n')}
  --daemon PATH    the lock daemon to judge; by default this checkout's
  --break NAME     break this checkout's daemon on purpose, and without --faults play those by which that shows:
                   ${Object.keys(breakages).join(', ')}
  --self-test      break it in all these ways, one after the other, until it is found: within five minutes each, or within --minutes
  --stand-in       judge a small daemon of the campaign's own
  --stand-in-fault NAME
                   the same, broken on purpose: ${standInFaults.join(', ')}
  --until-found    end at the first finding
  --json FILE      write what was counted and found; - is standard output, in place of the text
  -h, --help       print this

A run takes a fifth of a processor and 0.7 GB of memory. Progress goes to standard error. SIGTERM ends the faults, and the rest follows.

Exit status: 0 nothing was found, 1 something was, 2 wrong usage, 3 it could not be played. Of --self-test: 0 every way was found, 1 one was not.
`;

const MINUTES = '2';
const SELF_TEST_MINUTES = '5';

const settings = {
  seed: { type: 'string', default: '1' },
  runs: { type: 'string', default: '1' },
  minutes: { type: 'string' },
  lease: { type: 'string', default: '6' },
  faults: { type: 'string', default: faultNames.join() },
  daemon: { type: 'string' },
  break: { type: 'string' },
  'self-test': { type: 'boolean', default: false },
  'stand-in': { type: 'boolean', default: false },
  'stand-in-fault': { type: 'string' },
  'until-found': { type: 'boolean', default: false },
  json: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  const { daemon, break: breakage, 'stand-in-fault': fault } = values;
  const isSelfTest = values['self-test'];
  const isStandIn = values['stand-in'] || fault !== undefined;
  if ([daemon !== undefined, breakage !== undefined, isStandIn, isSelfTest].filter(Boolean).length > 1)
    throw new UsageError('--daemon, --break, --self-test and --stand-in are different daemons');
  if (breakage !== undefined) oneOf('way to break the daemon', Object.keys(breakages), breakage);
  const standIn = (): Subject => ({
    kind: 'stand-in',
    fault: fault === undefined ? undefined : oneOf('fault of the stand-in', standInFaults, fault),
  });
  const words = values.minutes ?? (isSelfTest ? SELF_TEST_MINUTES : MINUTES);
  const minutes = Number(words);
  if (!(minutes > 0)) throw new UsageError(`--minutes: '${words}' must be a number above 0`);
  return {
    seed: wholeNumber('seed', values.seed),
    runs: wholeNumber('runs', values.runs, 1),
    minutes,
    leaseSeconds: wholeNumber('lease', values.lease, 2),
    faults: faultsFor(
      breakage,
      values.faults.split(',').map((word) => oneOf('fault', faultNames, word)),
    ),
    subject: isStandIn ? standIn() : { kind: 'daemon', program: daemon ?? join(checkout, 'bin/virtlockd') },
    breakage,
    isSelfTest,
    endsEarly: values['until-found'],
    json: values.json,
    help: values.help,
  };
}
