/** The options of npm run inject. */
import { constants } from 'node:os';
import { parseArgs } from 'node:util';
import type { ErrorName } from './tracer.ts';

export const usage = `Usage: npm run inject -- [OPTION]...

Restarts a real daemon by SIGUSR1 again and again. In each restart one system call fails once: of the old program, of the
child that proves the new one, or of the new program. No lock may be lost, no process killed, nothing granted, and service
must go on. Which calls there are is seen in restarts without an error first. Needs root, cc and a build.

  --only TEXT     calls whose key holds the text, such as F_SETLK, 'new statx' or a whole key
  --errno NAME    this error only, such as ENOLCK
  --nth N         the Nth of equal calls only
  --after         errors of calls that are carried out all the same only
  --ending        restarts while an owner is being killed only; --no-ending: all others only
  --no-boot       leave out the calls of the dynamic loader, and of the runtime before it has read the new program: many
                  of them end the process, whatever that program is like, which is counted and is no finding
  --seed N        in an order, and a sample, that is the same for the same seed (1)
  --sample N      so many errors, picked at random
  --jobs N        so many daemons at a time (2)
  --stop          at the first finding
  --list          print the calls, and how often each is made
  --show          print the calls of the first restart with an error, and what the daemon logged
  --json          print the result as one line of JSON
  --quiet         no progress
  --help          print this

A key is \`ROLE NAME TARGET\`; see tracer.c. Each finding ends with the line that runs it again. Exit status: 0 nothing was
found, 1 something was, 2 usage, 3 cannot run.
`;

export class UsageError extends Error {}

export interface Options {
  readonly only: string;
  readonly error: ErrorName | undefined;
  readonly nth: number | undefined;
  readonly after: boolean;
  /** Which scenes there are: with an owner that is being killed or without. */
  readonly scenes: readonly boolean[];
  readonly boot: boolean;
  readonly seed: number;
  readonly sample: number;
  readonly jobs: number;
  readonly stop: boolean;
  readonly list: boolean;
  readonly show: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
}

const DESCRIPTION = {
  only: { type: 'string', default: '' },
  errno: { type: 'string' },
  nth: { type: 'string' },
  after: { type: 'boolean', default: false },
  ending: { type: 'boolean' },
  boot: { type: 'boolean', default: true },
  seed: { type: 'string', default: '1' },
  sample: { type: 'string' },
  jobs: { type: 'string', default: '2' },
  stop: { type: 'boolean', default: false },
  list: { type: 'boolean', default: false },
  show: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  quiet: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], allowNegative: true, options: DESCRIPTION }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function number(text: string, name: string, least = 0): number {
  if (!/^[0-9]+$/.test(text) || Number(text) < least) throw new UsageError(`--${name} wants a number, not '${text}'`);
  return Number(text);
}

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const { errno, nth, sample, ending, help, seed, jobs, ...rest } = parse(args);
  if (help) return 'help';
  const error = Object.keys(constants.errno).find((name): name is ErrorName => name === errno);
  if (errno !== undefined && error === undefined) throw new UsageError(`no error '${errno}'`);
  return {
    ...rest,
    error,
    nth: nth === undefined ? undefined : number(nth, 'nth', 1),
    scenes: ending === undefined ? [false, true] : [ending],
    seed: number(seed, 'seed'),
    sample: sample === undefined ? Infinity : number(sample, 'sample', 1),
    jobs: number(jobs, 'jobs', 1),
  };
}
