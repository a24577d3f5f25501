/** The command line of `npm run life`. */
import { parseCommandLine, UsageError, wholeNumber } from '../../../src/lab/command-line.ts';
import { behaviours, causes, type Way, waysNamed } from './plan.ts';

export interface Options {
  readonly ends: number;
  readonly seed: number;
  readonly from: number;
  readonly daemon: string | undefined;
  readonly ways: readonly Way[];
  readonly json: string | undefined;
  readonly help: boolean;
}

export const usage = `Usage: npm run life -- [OPTION]...

Lets processes own disks, write a counter to them every millisecond and end badly in every way, while others ask for those
disks all the while: at the owner's lock daemon, and at another one with the same storage. Nobody may get a disk while its
owner can write. Daemons are restarted, too. Wants root, a C compiler and /dev/fuse.

  --ends N       play rounds until so many owners have ended (1000)
  --seed N       the same seed makes the same plan (1)
  --from N       begin with the round of that number (0): a finding names its round
  --daemon PATH  the lock daemon to judge; by default this checkout's. The C daemon is judged by its grants alone
  --ways LIST    only those ways to end; words separated by commas, each the name of a cause, of a behaviour, or CAUSE/BEHAVIOUR:
                 ${causes.slice(0, 6).join(', ')},
                 ${causes.slice(6).join(', ')};
                 ${behaviours.join(', ')}
  --json FILE    write what was counted and found; - is standard output, and then nothing else goes there
  -h, --help     print this

SIGTERM ends it after the present round, and it tells what it has.

Exit status: 0 nothing was wrong, 1 something was, 2 usage, 3 it could not be played.
`;

const settings = {
  ends: { type: 'string', default: '1000' },
  seed: { type: 'string', default: '1' },
  from: { type: 'string', default: '0' },
  daemon: { type: 'string' },
  ways: { type: 'string', default: '' },
  json: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

function waysIn(list: string): Way[] {
  const words = list.split(',').filter((word) => word !== '');
  const unknown = words.find((word) => waysNamed([word]).length === 0);
  if (unknown !== undefined) throw new UsageError(`--ways: there is no '${unknown}'`);
  return waysNamed(words);
}

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  return {
    ends: wholeNumber('ends', values.ends, 1),
    seed: wholeNumber('seed', values.seed, 0),
    from: wholeNumber('from', values.from, 0),
    daemon: values.daemon,
    ways: waysIn(values.ways),
    json: values.json,
    help: values.help,
  };
}
