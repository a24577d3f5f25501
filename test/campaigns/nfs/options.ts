/** The command line of `npm run nfs`. */
import { listOf, parseCommandLine } from '../../../src/lab/command-line.ts';
import { type MachineOptions, machineOptions, machineSettings, machineUsage } from '../machine-options.ts';
import { type Kernel, kernels } from './kernels.ts';
import { type Subject, subjectNames, subjects, type Version, versions } from './plan.ts';

export interface Options extends MachineOptions {
  readonly kernels: readonly Kernel[];
  readonly versions: readonly Version[];
  readonly scenes: readonly Subject[];
}

/** In seconds. */
const LIMIT = 3600;

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
${machineUsage(LIMIT)}
SIGTERM turns the machine off and has the scenes so far judged.

Exit status: 0 no findings, 1 findings, 2 wrong usage, 3 the run failed.
`;

const settings = {
  kernels: { type: 'string', default: kernels.join(',') },
  versions: { type: 'string', default: versions.join(',') },
  scenes: { type: 'string', default: subjectNames.join(',') },
  ...machineSettings(LIMIT),
} as const;

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  return {
    kernels: listOf('kernel', kernels, values.kernels),
    versions: listOf('version', versions, values.versions),
    scenes: listOf('scene', subjectNames, values.scenes),
    ...machineOptions(values),
  };
}
