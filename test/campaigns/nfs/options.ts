/** The command line of `npm run nfs`. */
import { oneOf, parseCommandLine, wholeNumber } from '../../../src/lab/command-line.ts';
import { type Kernel, kernels } from './kernels.ts';
import { type Subject, subjectNames, subjects, type Version, versions } from './plan.ts';

export interface Options {
  readonly kernels: readonly Kernel[];
  readonly versions: readonly Version[];
  readonly scenes: readonly Subject[];
  /** For each machine, in seconds. */
  readonly limit: number;
  readonly words: boolean;
  readonly json: string | undefined;
  readonly help: boolean;
}

export const usage = `Usage: npm run nfs -- [OPTION]...

Boots a virtual machine under plain emulation, for each kernel, with a real NFS server and two hosts: network namespaces on a bridge,
each with its own mounts and lock daemon. Plays scenes there, each on NFSv4.2 and NFSv3:

${Object.entries(subjects)
  .map(([name, what]) => `  ${name.padEnd(9)}${what}`)
  .join('\n')}

On kernel 5.10 only restart, death and swap. Needs root, QEMU and the trees bookworm-nfs and bullseye-kernel (scripts/lab.sh). The
machine's image stays beside the trees, and the next run uses it again. All scenes take about 20 minutes.

  --kernels LIST   the kernels to boot, separated by commas (${kernels.join(',')})
  --versions LIST  of NFS (${versions.join(',')})
  --scenes LIST    only these scenes
  --limit N        give a machine up after so many seconds (3600)
  --words          also print what daemons and tools said
  --json FILE      write all facts and findings as JSON; - is standard output, in place of the text
  -h, --help       print this

SIGTERM turns the machine off and has the scenes so far judged.

Exit status: 0 no findings, 1 findings, 2 wrong usage, 3 the run failed.
`;

const settings = {
  kernels: { type: 'string', default: kernels.join(',') },
  versions: { type: 'string', default: versions.join(',') },
  scenes: { type: 'string', default: subjectNames.join(',') },
  limit: { type: 'string', default: '3600' },
  words: { type: 'boolean', default: false },
  json: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  const listed = <T extends string>(what: string, words: readonly T[], text: string): T[] =>
    text.split(',').map((word) => oneOf(what, words, word));
  return {
    kernels: listed('kernel', kernels, values.kernels),
    versions: listed('version', versions, values.versions),
    scenes: listed('scene', subjectNames, values.scenes),
    limit: wholeNumber('limit', values.limit, 1),
    words: values.words,
    json: values.json,
    help: values.help,
  };
}
