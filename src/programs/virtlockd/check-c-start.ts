/**
 * The child that foresees a C daemon's start: it goes through the steps of that, in their order, on which such a daemon ends when
 * they fail. It only looks, and neither makes nor changes anything. It has the daemon's user, environment, limits and working
 * directory, and may wait for storage that hangs. Each of these ends was seen on 9.0.0, 11.3.0 and 12.8.0
 * (test/wire/restart/c-start.test.ts).
 */
import { readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { type DaemonConfig, loadConfig } from './config.ts';
import { Level, LogSettingError, parseLevel } from '../../log/levels.ts';
import { parseFilters } from '../../log/filters.ts';
import { parseOutputs } from '../../log/output-spec.ts';
import { type LogTarget, setUpLogging } from '../../log/setup.ts';
import { mistakeForC, parseOptions, type RunOptions } from './options.ts';
import { isPrivileged, isWritable, pathsFor } from './own-paths.ts';
import type { DaemonPaths } from '../../libvirt/paths.ts';
import { environmentOf, workingDirectory } from './surroundings.ts';
import type { Environment } from './systemd.ts';
import type { ByteString } from '../../../xdr/codec.ts';
import { inodeOf } from '../../lockspace/files.ts';
import { toPath } from '../../posix/bytes.ts';
import { ANSWERS, type CStart, type CStartAnswer, type CStartOutlook } from '../../restart/answers.ts';
import { parseDocument, parseJson } from '../../restart/parse.ts';
import { probeDirectory, probeFile } from './probe.ts';

/** The C daemon would end; `message` gives the reason and a remedy. */
class CStartFailure extends Error {}

/**
 * @param begin is called with each file that is to be opened next, so that whoever waits in vain knows for which
 * @throws CStartFailure
 */
function foreseeCStart(start: CStart, begin: (what: ByteString) => void): CStartOutlook {
  const options = optionsForC(start.args);
  const environment = environmentOf(process.env, workingDirectory());
  const paths = pathsFor(environment, undefined);
  if (paths.state !== start.stateFile) {
    throw new CStartFailure(`it looks for its state in ${paths.state}, and not in ${start.stateFile}`);
  }
  const log = new LogOutlook(begin);
  const configFile = options.config ?? paths.config;
  begin(configFile);
  const config = foresee('correct the file', () => loadConfig(configFile, options.config !== undefined));
  foresee('correct the setting, or make that possible', () => {
    foreseeLog(options, environment, paths, config, log);
  });
  begin(paths.runDirectory);
  foresee('make that possible', () => {
    probeDirectory(paths.runDirectory);
  });
  foreseePidFile(options.pidFile ?? paths.pidFile, start.pidFile, begin);
  foresee('this is a defect', () => parseDocument(parseJson(readFileSync(toPath(start.document)))));
  const files = [configFile, ...log.files].map((file) => inodeOf(file));
  return {
    opened: files.filter((key) => key !== null),
    logFiles: log.files.length,
    timeout: options.timeout,
  };
}

function optionsForC(args: readonly string[]): RunOptions {
  const mistake = mistakeForC(args);
  if (mistake !== undefined) {
    throw new CStartFailure(
      `of the words that this daemon was started with it says "${mistake}": only a restart without them leads to it`,
    );
  }
  const parsed = parseOptions(args);
  if (parsed.kind !== 'run')
    throw new CStartFailure(`it does not serve with the words that this daemon was started with`);
  return parsed.options;
}

/** @param remedy for the operator, when `step` fails as it would in the C daemon */
function foresee<T>(remedy: string, step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new CStartFailure(`${error instanceof LogSettingError ? error.text : error.message}: ${remedy}`);
  }
}

function foreseeLog(
  options: RunOptions,
  environment: Environment,
  paths: DaemonPaths,
  config: DaemonConfig,
  log: LogOutlook,
): void {
  const journal = isWritable(paths.journal);
  // C makes a session's log directory before it knows whether it logs there.
  if (options.daemonize && !isPrivileged() && !journal) probeDirectory(dirname(paths.log));
  setUpLogging(log, {
    verbose: options.verbose,
    config,
    environment,
    daemonized: options.daemonize,
    journal,
    stdinIsTerminal: false,
    logFile: paths.log,
  });
}

/** Takes log settings, and only checks whether they could be made. */
class LogOutlook implements LogTarget {
  defaultLevel: Level = Level.WARNING;
  defaultOutput = '';
  readonly files: ByteString[] = [];
  private readonly begin: (what: ByteString) => void;

  constructor(begin: (what: ByteString) => void) {
    this.begin = begin;
  }

  setLevel(level: number | string): void {
    this.defaultLevel = parseLevel(String(level));
  }

  setFilters(text: string): void {
    parseFilters(text);
  }

  setOutputs(text: string): void {
    // C uses the root in place of a deleted directory.
    const { outputs, error } = parseOutputs(
      text === '' ? this.defaultOutput : text,
      'log output',
      workingDirectory() ?? '/',
    );
    for (const { destination, name } of outputs) {
      if (destination !== 'file') continue;
      this.begin(name);
      probeFile(name, 0);
      this.files.push(name);
    }
    if (error !== undefined) throw new LogSettingError(error);
  }

  write(): void {
    // Mistakes are thrown as well.
  }
}

/** @param locked the inode key of the pid file that this daemon has locked */
function foreseePidFile(file: ByteString, locked: string | null, begin: (what: ByteString) => void): void {
  if (file === '') return;
  begin(file);
  const there = inodeOf(file);
  if (there !== null && there !== locked) {
    throw new CStartFailure(`the pid file ${file} is not the one that this daemon has locked: move it away`);
  }
  foresee('make that possible', () => {
    probeFile(file, 16);
  });
}

function say(answer: CStartAnswer): void {
  writeSync(ANSWERS, `${JSON.stringify(answer)}\n`);
}

try {
  const outlook = foreseeCStart(JSON.parse(process.argv[2] ?? '') as CStart, (what) => {
    say({ begin: what });
  });
  say({ outlook });
} catch (error) {
  if (!(error instanceof CStartFailure)) throw error;
  say({ failure: error.message });
}
