/** The command line of virtlockd-conformance. */
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseCommandLine, UsageError, wholeNumber } from '../../lab/command-line.ts';

/** A daemon to start: its command, and the root it is found in. */
export interface Started {
  readonly command: readonly string[];
  readonly tree: string;
}

export interface Attached {
  readonly socket: string;
  readonly adminSocket: string;
}

export interface Options {
  readonly action: 'run' | 'list' | 'help' | 'version';
  readonly subject: Started | Attached | undefined;
  /** Another daemon, or the recorded version, to compare with. */
  readonly against: Started | string | undefined;
  readonly only: readonly string[];
  readonly dialect: string | undefined;
  readonly share: readonly string[];
  /** Parent of the directory with the files of checks of an attached daemon. */
  readonly directory: string | undefined;
  readonly jobs: number;
  /** How many times as long as usual daemons are waited for. */
  readonly patience: number;
  /** Failures that are known defects of the C daemons do not count. */
  readonly allowKnown: boolean;
  readonly tap: boolean;
  readonly quiet: boolean;
  readonly json: string | undefined;
  readonly junit: string | undefined;
  readonly html: string | undefined;
}

export const usage = `Usage: virtlockd-conformance [OPTION]... -- DAEMON [ARGUMENT]...
       virtlockd-conformance [OPTION]... --attach SOCKET
       virtlockd-conformance --list [--only PATTERN]...

Checks a libvirt lock daemon from outside: its answers, the files and locks that it makes, the processes that it ends.
Root gives every daemon a mount and a network namespace of its own; another user's daemon is a session daemon
with directories of its own.

Daemon and checks:
  --attach SOCKET        a daemon that runs already: only checks that leave it as it was
  --admin-socket SOCKET  its other socket; by default virtlockd-admin-sock beside it
  --directory DIR        parent directory of the files of such checks, by default that for temporary files
  --root-of TREE         find DAEMON in this directory tree, as chroot would (root only; also --chroot)
  --share DIR            a directory that the daemon's root has at the same path, such as an installation
                         elsewhere; may be repeated
  --only PATTERN         a group, a part of a check's name, or with * the whole name; may be repeated
  --dialect VERSION      judge by the recordings of that libvirt, by default by those of the version that the
                         daemon claims; also written into its configuration as libvirt_version
  --against OTHER        compare byte for byte with another daemon (a command) or with a recorded version
                         (7.0.0, 9.0.0, 11.3.0, 12.8.0)
  --against-root TREE    the tree of that command
  --jobs N               daemons at a time, by default a quarter more than processors
  --patience FACTOR      wait so many times as long as usual for whatever the daemon does: for slow
                         machines, and under emulation
  --allow-known          exit with 0 if all failures are known defects of libvirt's C daemons

Output:
  --list                 print the checks and their promises
  --tap                  TAP on standard output
  --json FILE, --junit FILE, --html FILE
                         write a report; - is standard output
  --quiet                no progress and no list of failures
  -h, --help             print this
  -V, --version          print the version

Exit status: 0 all checks passed or were skipped, 1 some failed, 2 usage, 3 they could not be run.
Without a terminal, progress is a line on standard error for each tenth of the checks.
`;

const settings = {
  attach: { type: 'string' },
  'admin-socket': { type: 'string' },
  directory: { type: 'string' },
  'root-of': { type: 'string' },
  chroot: { type: 'string' },
  share: { type: 'string', multiple: true },
  only: { type: 'string', multiple: true },
  dialect: { type: 'string' },
  against: { type: 'string' },
  'against-root': { type: 'string' },
  jobs: { type: 'string' },
  patience: { type: 'string', default: '1' },
  'allow-known': { type: 'boolean' },
  list: { type: 'boolean' },
  tap: { type: 'boolean' },
  json: { type: 'string' },
  junit: { type: 'string' },
  html: { type: 'string' },
  quiet: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
} as const;

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values, tokens } = parseCommandLine({
    args: [...args],
    options: settings,
    allowPositionals: true,
    tokens: true,
  });
  const end = tokens.find(({ kind }) => kind === 'option-terminator')?.index ?? args.length;
  const stray = tokens.find(({ kind, index }) => kind === 'positional' && index < end);
  if (stray !== undefined) throw new UsageError(`'${args[stray.index] ?? ''}': the daemon's command comes behind --`);
  const command = args.slice(end + 1);
  const action =
    values.help === true ? 'help' : values.version === true ? 'version' : values.list === true ? 'list' : 'run';
  const outputs = [values.json, values.junit, values.html].filter((file) => file === '-').length;
  if (outputs + (values.tap === true ? 1 : 0) > 1) throw new UsageError('only one report fits on standard output');
  const jobs = values.jobs === undefined ? Math.ceil(availableParallelism() * 1.25) : Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1 || jobs > 64) throw new UsageError('--jobs: a number from 1 to 64');
  const tree = values['root-of'] ?? values.chroot ?? '/';
  const against = values.against;
  const options: Options = {
    action,
    subject: subjectOf(command, tree, values.attach, values['admin-socket']),
    against:
      against === undefined || /^\d+\.\d+\.\d+$/.test(against)
        ? against
        : started(against.split(/\s+/), values['against-root'] ?? '/'),
    only: values.only ?? [],
    dialect: values.dialect,
    share: values.share ?? [],
    directory: values.directory,
    jobs: values.attach === undefined ? jobs : 1,
    patience: wholeNumber('patience', values.patience, 1),
    allowKnown: values['allow-known'] ?? false,
    tap: values.tap ?? false,
    quiet: values.quiet ?? false,
    json: values.json,
    junit: values.junit,
    html: values.html,
  };
  if (action === 'run' && options.subject === undefined) throw new UsageError('no daemon: -- COMMAND, or --attach');
  return options;
}

/** A path becomes absolute, because the daemon starts in another working directory. In a tree of its own it begins there. */
function started([program = '', ...args]: readonly string[], tree: string): Started {
  const isRelative = tree === '/' && program.includes('/');
  return { command: [isRelative ? resolve(program) : program, ...args], tree };
}

function subjectOf(
  command: readonly string[],
  tree: string,
  socket: string | undefined,
  adminSocket: string | undefined,
): Started | Attached | undefined {
  if (socket === undefined) return command.length === 0 ? undefined : started(command, tree);
  if (command.length > 0) throw new UsageError('--attach and a command do not go together');
  return { socket, adminSocket: adminSocket ?? join(dirname(socket), 'virtlockd-admin-sock') };
}

/** Whether `only` selects a check by its name; an empty list selects all. */
export function isWanted(name: string, only: readonly string[]): boolean {
  if (only.length === 0) return true;
  return only.some((pattern) => {
    if (!pattern.includes('*')) return name.startsWith(`${pattern}/`) || name.includes(pattern);
    const parts = pattern.split('*').map((part) => part.replace(/[^a-z0-9]/gi, '\\$&'));
    return new RegExp(`^${parts.join('.*')}$`).test(name);
  });
}
