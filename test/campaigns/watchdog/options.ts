/** The command line of `npm run etcd:watchdog`. */
import { listOf, parseCommandLine } from '../../../src/lab/command-line.ts';
import { type MachineOptions, machineOptions, machineSettings, machineUsage } from '../machine-options.ts';
import { type Scene, sceneNames, scenes } from './plan.ts';

export interface Options extends MachineOptions {
  readonly scenes: readonly Scene[];
}

/** In seconds. */
const LIMIT = 3600;

export const usage = `Usage: npm run etcd:watchdog -- [OPTION]...

Boots a virtual machine under plain emulation that has a watchdog, Intel's i6300ESB, and keeps locks in an etcd beside it. Plays scenes:

${Object.entries(scenes)
  .map(([name, what]) => `  ${name.padEnd(14)}${what}`)
  .join('\n')}

The last four are to have the machine reset, before etcd gives the lock up. It boots again for the next one. Needs root, QEMU, etcd and
the tree bookworm-nfs (scripts/lab.sh). The machine's image stays beside the trees, and the next run uses it again. All scenes take about
10 minutes.

  --scenes LIST    only these scenes, separated by commas
${machineUsage(LIMIT)}
SIGTERM turns the machine off and has the scenes so far judged.

Exit status: 0 no findings, 1 findings, 2 wrong usage, 3 the run failed.
`;

const settings = {
  scenes: { type: 'string', default: sceneNames.join(',') },
  ...machineSettings(LIMIT),
} as const;

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  return { scenes: listOf('scene', sceneNames, values.scenes), ...machineOptions(values) };
}
