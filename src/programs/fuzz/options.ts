/** The fuzzer's command line. */
import path from 'node:path';
import { oneOf, parseCommandLine, wholeNumber } from '../../lab/command-line.ts';
import type { ProgramName } from './steps.ts';
import { type DaemonKind, generations } from '../../lab/generation.ts';

const TARGETS = ['calls', 'daemon', 'codec', 'config', 'filters', 'outputs', 'document', 'replay'] as const;

export interface FuzzOptions {
  readonly target: (typeof TARGETS)[number];
  /** It runs the daemon's code in this process, and coverage guides it. */
  readonly isGuided: boolean;
  readonly seed: number;
  /** Whether the run is over after so many runs and seconds. */
  enough(runs: number, seconds: number): boolean;
  readonly corpus: string | undefined;
  readonly findings: string | undefined;
  readonly json: string | undefined;
  readonly quiet: boolean;
  readonly daemon: DaemonKind;
  readonly against: DaemonKind | undefined;
  /** Sends SIGUSR1 between calls. */
  readonly restarts: boolean;
  /** Gives one file two names. */
  readonly aliases: boolean;
  /** The programs to call. */
  readonly programs: readonly ProgramName[];
  /** Files to replay. */
  readonly files: readonly string[];
}

export const usage = `Usage: virtlockd-fuzz [options] TARGET
       virtlockd-fuzz [options] replay FILE...

Targets:
  calls      sequences of calls against the daemon's code in this process (the default)
  daemon     the same against a real daemon, in a mount namespace of its own (needs root)
  codec, config, filters, outputs, document
             bytes against a parser

Options:
  --daemon KIND     for 'daemon' and 'replay': ours (default), 7.0.0, 9.0.0, 11.3.0, 12.8.0
  --against KIND    give both daemons the same sequences and compare their answers
  --no-restarts     never send SIGUSR1
  --no-aliases      never give a file a second name: C grants both
  --programs LIST   the programs to call, of 'lock,admin,inquire'; by default those that the daemons have
  --seed N          default 1: the same seed makes the same inputs
  --time S          stop after S seconds (default 60, or none with --runs)
  --runs N          stop after N inputs or calls
  --corpus DIR      keep inputs there that reach new code, and begin with them
  --findings DIR    write findings there (default fuzz-findings)
  --json FILE       write the summary there instead of to standard output
  --quiet           show nothing while running

Exit status: 0 no findings, 1 findings, 2 usage, 3 it could not run.
`;

const count = (option: string, text: string | undefined): number | undefined =>
  text === undefined ? undefined : wholeNumber(option, text);

const kind = (text: string): DaemonKind => oneOf('daemon', ['ours', ...generations], text);

const PROGRAMS = ['lock', 'admin', 'inquire'] as const;

/** The named ones, else all that the daemons have: C has no inquire program. */
function programsOf(text: string | undefined, daemons: readonly (DaemonKind | undefined)[]): readonly ProgramName[] {
  if (text !== undefined) return text.split(',').map((word) => oneOf('program', PROGRAMS, word));
  return daemons.every((one) => one === undefined || one === 'ours') ? PROGRAMS : ['lock', 'admin'];
}

/** @throws UsageError */
export function parseOptions(args: readonly string[]): FuzzOptions | 'help' {
  const { values, positionals } = parseCommandLine({
    args: [...args],
    allowPositionals: true,
    options: {
      daemon: { type: 'string', default: 'ours' },
      against: { type: 'string' },
      'no-restarts': { type: 'boolean', default: false },
      'no-aliases': { type: 'boolean', default: false },
      programs: { type: 'string' },
      seed: { type: 'string' },
      time: { type: 'string' },
      runs: { type: 'string' },
      corpus: { type: 'string' },
      findings: { type: 'string', default: 'fuzz-findings' },
      json: { type: 'string' },
      quiet: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const [name = 'calls', ...files] = positionals;
  const target = oneOf('target', TARGETS, name);
  const runs = count('runs', values.runs);
  const time = count('time', values.time) ?? (runs === undefined ? 60 : undefined);
  const daemon = kind(values.daemon);
  const against = values.against === undefined ? undefined : kind(values.against);
  return {
    target,
    isGuided: target !== 'daemon' && target !== 'replay',
    seed: count('seed', values.seed) ?? 1,
    enough: (done, seconds) => done >= (runs ?? Infinity) || seconds >= (time ?? Infinity),
    corpus: values.corpus === undefined ? undefined : path.resolve(values.corpus),
    findings: path.resolve(values.findings),
    json: values.json === undefined ? undefined : path.resolve(values.json),
    quiet: values.quiet,
    daemon,
    against,
    programs: programsOf(values.programs, [daemon, against]),
    restarts: !values['no-restarts'],
    aliases: !values['no-aliases'],
    files: files.map((file) => path.resolve(file)),
  };
}
