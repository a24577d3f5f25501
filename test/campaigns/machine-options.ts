/** The options that campaigns in a virtual machine have beside their own. */
import { wholeNumber } from '../../src/lab/command-line.ts';

export interface MachineOptions {
  /** For each machine, in seconds. */
  readonly limit: number;
  readonly words: boolean;
  readonly json: string | undefined;
  readonly help: boolean;
}

/** @param limit the default, in seconds */
export const machineUsage = (limit: number): string => `\
  --limit N        give a machine up after so many seconds (${limit})
  --words          also print what daemons and tools said
  --json FILE      write all results as JSON; - is standard output, in place of the text
  -h, --help       print this
`;

/** @param limit the default, in seconds */
export const machineSettings = (limit: number) =>
  ({
    limit: { type: 'string', default: String(limit) },
    words: { type: 'boolean', default: false },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  }) as const;

/** @throws UsageError */
export function machineOptions(values: {
  readonly limit: string;
  readonly words: boolean;
  readonly json?: string | undefined;
  readonly help: boolean;
}): MachineOptions {
  const { limit, words, json, help } = values;
  return { limit: wholeNumber('limit', limit, 1), words, json, help };
}
