/** The command line of `npm run deaths`. */
import { parseCommandLine, UsageError, wholeNumber } from '../../../src/lab/command-line.ts';
import { debian12, debian13Machine, type Release } from '../../package/trees.ts';
import { isWay, type Way, ways } from './ways.ts';

export interface Options {
  readonly release: Release;
  readonly kills: number;
  readonly seed: number;
  readonly guests: number;
  readonly ways: readonly Way[];
  readonly json: string | undefined;
  readonly help: boolean;
}

export const usage = `Usage: npm run deaths -- [OPTION]...

Installs the package in a Debian booted by systemd. Starts, suspends, resumes, saves, restores, migrates and kills guests under two
libvirtds, plugs and unplugs their disks, changes their media, and kills the lock daemon at random moments. During the run two rivals
ask for every disk: one asks the kernel, as another host would, and one asks the daemon. No lock may be free for an instant. No guest may
be lost, no call may hang, and no descriptor may be left in systemd's store at the end. libvirt may report only errors of calls that died.
Needs root, systemd-nspawn, strace, a C compiler and the tree bookworm-systemd or trixie-systemd (scripts/lab.sh).

  --release N  the Debian to boot: 12 or 13 (12)
  --kills N    how often to end the daemon (200)
  --seed N     the same seed makes the same plan (1), but the machine decides when each step happens
  --guests N   how many guests to run (4)
  --ways LIST  the ways to end the daemon, separated by commas, if not all:
               ${ways.join(', ')};
               kill comes as often as placed, and as all others together. placed is a kill at a chosen system call of one
               operation, while no other client asks for anything
  --json FILE  write counts and findings as JSON; - is standard output, in place of the text
  -h, --help   print this

Exit status: 0 no findings, 1 findings, 2 wrong usage, 3 the run failed.
`;

const releases: Readonly<Record<string, Release>> = { 12: debian12, 13: debian13Machine };

const settings = {
  release: { type: 'string', default: '12' },
  kills: { type: 'string', default: '200' },
  seed: { type: 'string', default: '1' },
  guests: { type: 'string', default: '4' },
  ways: { type: 'string', default: ways.join(',') },
  json: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

function waysIn(list: string): Way[] {
  return list.split(',').map((word) => {
    if (!isWay(word)) throw new UsageError(`--ways: unknown way '${word}'`);
    return word;
  });
}

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  const release = releases[values.release];
  if (release === undefined) throw new UsageError(`--release: must be 12 or 13, not '${values.release}'`);
  return {
    release,
    kills: wholeNumber('kills', values.kills, 1),
    seed: wholeNumber('seed', values.seed, 0),
    guests: wholeNumber('guests', values.guests, 1),
    ways: waysIn(values.ways),
    json: values.json,
    help: values.help,
  };
}
