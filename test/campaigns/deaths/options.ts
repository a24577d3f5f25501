/** The command line of `npm run deaths`. */
import { parseCommandLine, UsageError, wholeNumber } from '../../../src/lab/command-line.ts';
import { isWay, type Way, ways } from './ways.ts';

export interface Options {
  readonly kills: number;
  readonly seed: number;
  readonly guests: number;
  readonly ways: readonly Way[];
  readonly json: string | undefined;
  readonly help: boolean;
}

export const usage = `Usage: npm run deaths -- [OPTION]...

Installs the package in a Debian 12 that systemd has booted, and starts, suspends, resumes, saves, restores and kills guests under
its libvirtd, while the lock daemon is killed at random moments. Two rivals ask for every disk all the while: one at the kernel, as
another host would, one at the daemon. No lock may be free for an instant, no guest be lost, no call hang, and nothing be left in
systemd's descriptor store at the end. Wants root, systemd-nspawn, a C compiler and the tree bookworm-systemd (scripts/lab.sh).

  --kills N    end the daemon so many times (200)
  --seed N     the same seed makes the same plan (1); when things happen is up to the machine
  --guests N   how many guests there are (4)
  --ways LIST  only those ways to end the daemon, separated by commas:
               ${ways.join(', ')};
               kill comes as often as all others together
  --json FILE  write what was counted and found; - is standard output, and then nothing else goes there
  -h, --help   print this

Exit status: 0 nothing was wrong, 1 something was, 2 usage, 3 it could not be played.
`;

const settings = {
  kills: { type: 'string', default: '200' },
  seed: { type: 'string', default: '1' },
  guests: { type: 'string', default: '4' },
  ways: { type: 'string', default: ways.join(',') },
  json: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

function waysIn(list: string): Way[] {
  return list.split(',').map((word) => {
    if (!isWay(word)) throw new UsageError(`--ways: there is no '${word}'`);
    return word;
  });
}

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  return {
    kills: wholeNumber('kills', values.kills, 1),
    seed: wholeNumber('seed', values.seed, 0),
    guests: wholeNumber('guests', values.guests, 1),
    ways: waysIn(values.ways),
    json: values.json,
    help: values.help,
  };
}
