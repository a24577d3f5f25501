/** Parses the command line. Pure. */

import { getoptLong } from './getopt.ts';
import type { OptionSpec } from './getopt.ts';

/** `undefined` stands for the default of paths.ts. */
export interface RunOptions {
  daemonize: boolean;
  verbose: boolean;
  config: string | undefined;
  pidFile: string | undefined;
  /** Seconds until an idle daemon ends, 0 for never. */
  timeout: number;
  /** A directory for all paths that are fixed otherwise. */
  root: string | undefined;
  /** A state document to check instead of serving. */
  checkState: string | undefined;
}

/**
 * - `run`: serve with these options
 * - `help`: print the usage, exit 0
 * - `version`: print the version, exit 0; `options` are those before it
 * - `usage`: print `<argv0>: <text>` and the usage, exit 1
 * - `invalid`: log `text` as an error, exit 1 (C logs these, without usage)
 */
type ParsedOptions =
  | { kind: 'run'; options: RunOptions }
  | { kind: 'help' }
  | { kind: 'version'; options: RunOptions }
  | { kind: 'usage'; text: string }
  | { kind: 'invalid'; text: string };

type Name = 'verbose' | 'daemon' | 'config' | 'timeout' | 'pid-file' | 'version' | 'help' | 'root' | 'check-state';

/** In the order in which C lists them when a prefix is ambiguous; the last two are not C's. */
const SPECS: readonly OptionSpec<Name>[] = [
  { name: 'verbose', short: 'v', argument: false },
  { name: 'daemon', short: 'd', argument: false },
  { name: 'config', short: 'f', argument: true },
  { name: 'timeout', short: 't', argument: true },
  { name: 'pid-file', short: 'p', argument: true },
  { name: 'version', short: 'V', argument: false },
  { name: 'help', short: 'h', argument: false },
  { name: 'root', argument: true, exact: true },
  { name: 'check-state', argument: true, exact: true },
];

/** C keeps milliseconds in a signed 32-bit integer. */
const MAX_TIMEOUT = Math.floor(0x7fffffff / 1000);

/**
 * Parses the words after the program's name. As in C, the first of help, version and a mistake decides, and further words are ignored;
 * of an option given twice the last counts.
 */
export function parseOptions(args: readonly string[]): ParsedOptions {
  const options: RunOptions = {
    daemonize: false,
    verbose: false,
    config: undefined,
    pidFile: undefined,
    timeout: 0,
    root: undefined,
    checkState: undefined,
  };
  for (const found of getoptLong(SPECS, args)) {
    if ('error' in found) return { kind: 'usage', text: found.error };
    switch (found.name) {
      case 'verbose':
        options.verbose = true;
        break;
      case 'daemon':
        options.daemonize = true;
        break;
      case 'config':
        options.config = found.value;
        break;
      case 'pid-file':
        options.pidFile = found.value;
        break;
      case 'timeout': {
        const seconds = parseTimeout(found.value);
        if (seconds === undefined) return { kind: 'invalid', text: 'Invalid value for timeout' };
        options.timeout = seconds;
        break;
      }
      case 'root':
        options.root = found.value;
        break;
      case 'check-state':
        options.checkState = found.value;
        break;
      case 'version':
        return { kind: 'version', options };
      case 'help':
        return { kind: 'help' };
    }
  }
  return { kind: 'run', options };
}

/** The C daemon's error for the first word that it does not know, such as one of our own options; or undefined. */
export function mistakeForC(args: readonly string[]): string | undefined {
  const specs = SPECS.filter(({ exact }) => exact !== true);
  for (const found of getoptLong(specs, args)) if ('error' in found) return found.error;
  return undefined;
}

/** As C calls strtol(3), in base ten: anything may follow the digits. No digits and negative numbers are refused. */
function parseTimeout(text: string): number | undefined {
  const match = /^[ \t\n\v\f\r]*([+-]?)([0-9]+)/.exec(text);
  if (match === null) return undefined;
  const seconds = Number(match[2]);
  if (match[1] === '-' && seconds > 0) return undefined;
  return seconds > MAX_TIMEOUT ? undefined : seconds;
}

/** The one line of `--version`, with its newline, for standard output. */
export function versionText(argv0: string, libvirtVersion: string): string {
  return `${argv0} (libvirt) ${libvirtVersion}\n`;
}

/** The text of `--help`, also printed after a mistake. C prints both on standard error. */
export function usageText(argv0: string, privileged: boolean): string {
  const paths = privileged
    ? `\
    Configuration file (unless overridden by -f):
      /etc/libvirt/virtlockd.conf

    Sockets:
      /run/libvirt/virtlockd-sock

    PID file (unless overridden by -p):
      /run/virtlockd.pid

`
    : `\
    Configuration file (unless overridden by -f):
      $XDG_CONFIG_HOME/libvirt/virtlockd.conf

    Sockets:
      $XDG_RUNTIME_DIR/libvirt/virtlockd-sock

    PID file:
      $XDG_RUNTIME_DIR/libvirt/virtlockd.pid

`;
  return `
Usage:
  ${argv0} [options]

Options:
  -h | --help            Display program help:
  -v | --verbose         Verbose messages.
  -d | --daemon          Run as a daemon & write PID file.
  -t | --timeout <secs>  Exit after timeout period.
  -f | --config <file>   Configuration file.
  -V | --version         Display version information.
  -p | --pid-file <file> Change name of PID file.

libvirt lock management daemon:

  Default paths:

${paths}${OWN_OPTIONS}`;
}

/** After the C daemon's own text, so that the difference is one block. */
const OWN_OPTIONS = `\
Options of this implementation:
  --root <dir>           Move all fixed paths below a directory.
  --check-state <file>   Check a restart document and exit.

`;
