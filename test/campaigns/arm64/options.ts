/** The command line of `npm run arm64`. */
import { oneOf, parseCommandLine, wholeNumber } from '../../../src/lab/command-line.ts';

/** What is done, and how long it takes. */
export const parts = {
  machine: 'the package in a virtual machine with systemd, beside libvirt 9.0.0 (5 minutes)',
  conformance: "the checks of virtlockd-conformance, with both lock daemons under QEMU's user mode (30 minutes)",
} as const;
export type Part = keyof typeof parts;

const partNames = Object.keys(parts) as Part[];

export interface Options {
  readonly parts: readonly Part[];
  /** Of the checks of virtlockd-conformance. */
  readonly only: readonly string[];
  /** For the virtual machine, in seconds. */
  readonly limit: number;
  readonly words: boolean;
  readonly json: string | undefined;
  readonly help: boolean;
}

export const usage = `Usage: npm run arm64 -- [OPTION]...

Tries the package for arm64 on a machine of another architecture, which emulates one:

${Object.entries(parts)
  .map(([name, what]) => `  ${name.padEnd(13)}${what}`)
  .join('\n')}

Needs root, Debian's packages g++-aarch64-linux-gnu, qemu-system-arm and qemu-user-static, and the tree bookworm-arm64 (scripts/lab.sh).
The machine's image stays beside the tree, and the next run uses it again.

  --parts LIST     only these parts, separated by commas
  --only PATTERN   of the checks, only these; see virtlockd-conformance --help; may be repeated
  --limit N        give the machine up after so many seconds (1800)
  --words          also print what daemons and tools said
  --json FILE      write all results as JSON; - is standard output, in place of the text
  -h, --help       print this

A check that fails with this daemon counts as a finding unless it fails with libvirt's under the same emulation, too.

Exit status: 0 no findings, 1 findings, 2 wrong usage, 3 the run failed.
`;

const settings = {
  parts: { type: 'string', default: partNames.join(',') },
  only: { type: 'string', multiple: true, default: [] as string[] },
  limit: { type: 'string', default: '1800' },
  words: { type: 'boolean', default: false },
  json: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseCommandLine({ args: [...args], options: settings });
  return {
    parts: values.parts.split(',').map((word) => oneOf('part', partNames, word)),
    only: values.only,
    limit: wholeNumber('limit', values.limit, 1),
    words: values.words,
    json: values.json,
    help: values.help,
  };
}
