/** Outputs as text: destinations, and the levels from which on they get messages. outputs.ts opens them. */

import { resolve } from 'node:path';
import type { ByteString } from '../../xdr/codec.ts';
import { tokens } from './filters.ts';
import { parsePriority } from './levels.ts';
import type { Level } from './levels.ts';

type Destination = 'stderr' | 'file' | 'syslog' | 'journald';

/** One output. `name` is the file's absolute path, or the identifier for syslog; else empty. */
export interface OutputSpec {
  readonly level: Level;
  readonly destination: Destination;
  readonly name: string;
}

/** The outputs before the first mistake, and that mistake: C opens each output before it parses the next. */
interface ParsedOutputs {
  readonly outputs: readonly OutputSpec[];
  readonly error?: string;
}

/** The noun for an output in the errors of libvirt's versions (libvirt/dialect.ts). */
export type OutputNoun = 'output' | 'log output';

const HAS_NAME: Readonly<Record<Destination, boolean>> = { stderr: false, file: true, syslog: true, journald: false };

/** Parses `N:stderr N:file:PATH N:syslog:IDENT N:journald`. A relative path is taken from `directory`. */
export function parseOutputs(text: ByteString, noun: OutputNoun, directory: ByteString | null): ParsedOutputs {
  const outputs: OutputSpec[] = [];
  for (const token of tokens(text)) {
    const parsed = parseOutput(token, noun, directory);
    if (typeof parsed === 'string') return { outputs, error: parsed };
    outputs.push(parsed);
  }
  return { outputs };
}

function parseOutput(token: string, noun: OutputNoun, directory: ByteString | null): OutputSpec | string {
  const [priority = '', destination, ...names] = token.split(':');
  if (destination === undefined) return `Malformed format for ${noun} '${token}'`;
  const level = parsePriority(priority);
  const log = noun === 'output' ? '' : 'log ';
  if (level === undefined) return `Invalid ${log}priority '${priority}' for ${noun} '${token}'`;
  if (!isDestination(destination)) return `Invalid ${log}destination '${destination}' for ${noun} '${token}'`;
  if (names.length !== (HAS_NAME[destination] ? 1 : 0)) {
    const start = noun === 'output' ? 'Output' : 'Log output';
    return `${start} '${token}' does not meet the format requirements for destination type '${destination}'`;
  }
  const [name = ''] = names;
  return { level, destination, name: destination === 'file' ? absolutePath(name, noun, directory) : name };
}

function isDestination(text: string): text is Destination {
  return Object.hasOwn(HAS_NAME, text);
}

/**
 * As glib makes a path canonical: without resolving links, and keeping exactly two slashes at its start. 7.0.0, which says 'output',
 * only puts the directory before a relative path.
 */
function absolutePath(path: ByteString, noun: OutputNoun, directory: ByteString | null): ByteString {
  // A deleted directory has no path. The kernel finds no file there.
  if (directory === null && !path.startsWith('/')) return path;
  if (noun === 'output') return path.startsWith('/') ? path : `${directory ?? ''}/${path}`;
  const canonical = resolve(directory ?? '/', path);
  return /^\/\/(?!\/)/.test(path) ? `/${canonical}` : canonical;
}

/** As the admin program returns them. */
export function formatOutputs(outputs: readonly OutputSpec[]): string {
  return outputs
    .map(({ level, destination, name }) => `${level}:${destination}${HAS_NAME[destination] ? `:${name}` : ''}`)
    .join(' ');
}

/** Of two outputs to the same place the later one counts, at its own position. */
export function sameOutput(one: OutputSpec, other: OutputSpec): boolean {
  return one.destination === other.destination && one.name === other.name;
}

/** What decides where an unconfigured daemon logs. */
export interface Surroundings {
  readonly daemonized: boolean;
  /** The journal's socket exists. */
  readonly journal: boolean;
  readonly stdinIsTerminal: boolean;
  /** For a daemonized one without a journal. */
  readonly logFile: string;
}

/** The setting of an unconfigured daemon, which an empty setting restores. */
export function defaultOutputs(input: Surroundings & { readonly level: Level }): string {
  const { level, daemonized, journal, stdinIsTerminal, logFile } = input;
  if (journal && (daemonized || !stdinIsTerminal)) return `${level}:journald`;
  return daemonized ? `${level}:file:${logFile}` : `${level}:stderr`;
}
