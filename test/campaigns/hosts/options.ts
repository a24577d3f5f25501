/** The command line of `npm run hosts`. */
import { oneOf, parseCommandLine, UsageError, wholeNumber } from '../../../src/lab/command-line.ts';
import type { Kind, Place } from '../../support/two-hosts.ts';
import type { Pair } from './scene.ts';

export interface Options {
  readonly pairs: readonly Pair[];
  readonly places: readonly Place[];
  readonly rounds: number;
  readonly restarts: boolean;
  readonly record: boolean;
  readonly json: string | undefined;
  readonly help: boolean;
}

export const usage = `Usage: npm run hosts -- [OPTION]...

Runs a guest on two hosts with one GlusterFS: mount, UTS and UUID apart, each with its libvirtd, QEMU and lock daemon. The guest is
migrated, saved and restored on the other host, gets snapshots, block copies and commits, disks and media, and its migrations fail in
every way. After each step the storage says which host has which lock. This, the answers of virsh, the states of the guest, and each
moment in which it ran twice or without its lock are compared with those of two C daemons, as fixtures/hosts has them. Needs root,
libvirt 9.0.0, QEMU and GlusterFS.

  --pairs LIST   which daemons node7 and node8 have, separated by commas: ours/ours, ours/C, C/ours, C/C (all)
  --places LIST  direct: libvirt locks the images; indirect: files in a directory beside them (both)
  --rounds N     play all that N times (1)
  --restarts     restart the daemons by SIGUSR1 before each step
  --record       write what C/C does to fixtures/hosts, in place of a comparison
  --json FILE    write outcomes and differences as JSON; - is standard output, in place of the text
  -h, --help     print this

Exit status: 0 all as with C, 1 differences, 2 wrong usage, 3 the run failed.
`;

const kinds: Readonly<Record<'ours' | 'C', Kind>> = { ours: 'ours', C: '9.0.0' };
const pairNames = ['C/C', 'ours/ours', 'ours/C', 'C/ours'] as const;
const placeNames = ['direct', 'indirect'] as const;

const settings = {
  pairs: { type: 'string', default: pairNames.join(',') },
  places: { type: 'string', default: placeNames.join(',') },
  rounds: { type: 'string', default: '1' },
  restarts: { type: 'boolean', default: false },
  record: { type: 'boolean', default: false },
  json: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

export function pairNamed(name: string): Pair {
  const [one, two] = oneOf('pair', pairNames, name).split('/') as ['ours' | 'C', 'ours' | 'C'];
  return [kinds[one], kinds[two]];
}

export function nameOfPair(pair: Pair): string {
  return pair.map((kind) => (kind === 'ours' ? kind : 'C')).join('/');
}

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  const pairs = values.record ? 'C/C' : values.pairs;
  if (values.record && values.pairs !== settings.pairs.default) throw new UsageError('--record: plays C/C alone');
  return {
    pairs: pairs.split(',').map(pairNamed),
    places: values.places.split(',').map((name) => oneOf('place', placeNames, name)),
    rounds: wholeNumber('rounds', values.rounds, 1),
    restarts: values.restarts,
    record: values.record,
    json: values.json,
    help: values.help,
  };
}
