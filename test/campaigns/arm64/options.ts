/** The command line of `npm run arm64`. */
import { listOf, parseCommandLine } from '../../../src/lab/command-line.ts';
import { type Daemon, daemonNames } from './conformance.ts';
import { type MachineOptions, machineOptions, machineSettings, machineUsage } from '../machine-options.ts';

/** What is done, and how long it takes. */
export const parts = {
  machine: 'the package in a virtual machine with systemd, beside libvirt 9.0.0 (5 minutes)',
  user: "in QEMU's user mode, the package in a copy of the tree, SIGUSR1, and swaps with libvirt 9.0.0 (2 minutes)",
  conformance: 'the checks of virtlockd-conformance, with both lock daemons in that mode (30 minutes)',
} as const;
export type Part = keyof typeof parts;

const partNames = Object.keys(parts) as Part[];

export interface Options extends MachineOptions {
  readonly parts: readonly Part[];
  /** Of the checks of virtlockd-conformance. */
  readonly only: readonly string[];
  /** Whose checks. */
  readonly daemons: readonly Daemon[];
}

/** In seconds. */
const LIMIT = 1800;

export const usage = `Usage: npm run arm64 -- [OPTION]...

Tries the package for arm64 on a machine of another architecture, which emulates one:

${Object.entries(parts)
  .map(([name, what]) => `  ${name.padEnd(13)}${what}`)
  .join('\n')}

Needs root, Debian's packages g++-aarch64-linux-gnu, qemu-system-arm and qemu-user-static, and the tree bookworm-arm64 (scripts/lab.sh).
The machine's image stays beside the tree, and the next run uses it again.

  --parts LIST     only these parts, separated by commas
  --only PATTERN   of the checks, only these; see virtlockd-conformance --help; may be repeated
  --daemons LIST   the checks of these daemons: ${daemonNames.join(',')}
${machineUsage(LIMIT)}
QEMU's user mode translates system calls into those of this machine's kernel. What it does otherwise than that kernel is asked first, and
printed. A check that fails with this daemon counts as a finding unless it fails with libvirt's under the same emulation, too.
A check that waits in vain takes five minutes there, as everything gets ten times the patience.

Exit status: 0 no findings, 1 findings, 2 wrong usage, 3 the run failed.
`;

const settings = {
  parts: { type: 'string', default: partNames.join(',') },
  only: { type: 'string', multiple: true, default: [] as string[] },
  daemons: { type: 'string', default: daemonNames.join(',') },
  ...machineSettings(LIMIT),
} as const;

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  return {
    parts: listOf('part', partNames, values.parts),
    only: values.only,
    daemons: listOf('daemon', daemonNames, values.daemons),
    ...machineOptions(values),
  };
}
