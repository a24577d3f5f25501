/** The program's entry: what the command line asks for, and exit codes. Started by bin/virtlockd through start.cjs. */
import { accessSync, constants, mkdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { exitProcess } from '../posix/exit.ts';
import { posix } from '../posix/posix.ts';
import { DocumentError, parseDocument, parseJson } from '../restart/parse.ts';
import { readPredecessor } from '../restart/predecessor.ts';
import { CHECK_BANNER, CHECK_FAILED, formatCommand } from '../restart/successor.ts';
import { dialectOf, parseVersion } from '../rpc/dialect.ts';
import { ConfigError, type DaemonConfig, DEFAULT_CONFIG, loadConfig } from './config.ts';
import { daemonArguments, startDaemon, takeStartReport } from './daemonize.ts';
import { EXIT, StartupError } from './exit.ts';
import { LogSettingError } from './log/levels.ts';
import { logger, logging } from './log/log.ts';
import { setUpLogging } from './log/setup.ts';
import { parseOptions, type RunOptions, usageText, versionText } from './options.ts';
import { type DaemonPaths, daemonPaths } from './paths.ts';
import { makeRunDirectory } from './run-directory.ts';
import { serve } from './serve.ts';
import { sortActivation, takeListenDescriptors } from './systemd.ts';

const log = logger('locking.lock_daemon');

/** The path we were started by, unresolved, and our arguments: see bin/virtlockd. */
const [, , program = 'virtlockd', ...args] = process.argv;

function main(): void {
  const parsed = parseOptions(args);
  switch (parsed.kind) {
    case 'help':
      process.stderr.write(usageText(program, isPrivileged()));
      process.exit(EXIT.ok);
      break;
    case 'version':
      process.stdout.write(versionText(program, configuredVersion(parsed.options)));
      process.exit(EXIT.ok);
      break;
    case 'usage':
      process.stderr.write(`${program}: ${parsed.text}\n${usageText(program, isPrivileged())}`);
      process.exit(EXIT.options);
      break;
    case 'invalid':
      log.error(parsed.text);
      process.exit(EXIT.options);
      break;
    case 'run':
      if (parsed.options.checkState === undefined) run(parsed.options);
      else exitProcess(checkState(parsed.options.checkState));
      break;
  }
}

function isPrivileged(): boolean {
  return process.geteuid?.() === 0;
}

function pathsFor(root: string | undefined): DaemonPaths {
  return daemonPaths({
    privileged: isPrivileged(),
    environment: process.env,
    homeDirectory: os.homedir(),
    root: root === undefined ? undefined : path.resolve(root),
  });
}

/** The version to claim. A broken configuration is no reason not to answer: then the default one's counts. */
function configuredVersion({ config, root }: RunOptions): string {
  const standard = pathsFor(root).config;
  for (const file of new Set([config ?? standard, standard])) {
    try {
      return loadConfig(file, config !== undefined).libvirtVersion;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
    }
  }
  return DEFAULT_CONFIG.libvirtVersion;
}

function run(options: RunOptions): void {
  // Taken out of the environment before anything can inherit them.
  const report = takeStartReport(process.env);
  const passed = takeListenDescriptors(process.env, process.pid);
  const directory = report?.directory ?? process.cwd();
  const paths = pathsFor(options.root);
  if (options.pidFile !== undefined) paths.pidFile = options.pidFile;
  const configFile = options.config ?? paths.config;
  const setUpLog = (config: DaemonConfig): void => {
    setUpLogging(logging, {
      verbose: options.verbose,
      config,
      environment: process.env,
      daemonized: options.daemonize,
      journal: isWritable(paths.journal),
      stdinIsTerminal: posix.isTerminal(0),
      logFile: paths.log,
    });
  };
  try {
    logging.directory = directory;
    logging.useSockets(paths);
    const predecessor = readPredecessor(paths.state, passed.length > 0);
    // Settings that are wrong by now are no reason to end, and to lose every lock, in a re-execution.
    const tolerant = predecessor === null ? insist : logAndGoOn;
    const config = tolerant(() => loadConfig(configFile, options.config !== undefined)) ?? { ...DEFAULT_CONFIG };
    const number = parseVersion(config.libvirtVersion) ?? 0;
    logging.version = { text: config.libvirtVersion, number };
    logging.outputNoun = dialectOf(number).logOutput;
    // A session's directories are nobody else's task; /var/log/libvirt is the package's, and C refuses without it.
    if (options.daemonize && !isPrivileged()) mkdirSync(path.dirname(paths.log), { recursive: true, mode: 0o700 });
    tolerant(() => {
      setUpLog(config);
      makeRunDirectory(paths.runDirectory, paths.runDirectoryMode, isPrivileged());
    });
    if (options.daemonize && report === undefined && predecessor === null) {
      becomeParent(options, directory);
      return;
    }
    const absolute = path.resolve(program);
    serve({
      program: absolute,
      args,
      options,
      paths,
      config,
      configFile,
      predecessor,
      activation: sortActivation(passed),
      setUpLog,
    });
    report?.send(EXIT.ok);
  } catch (error) {
    const exitCode = explain(error);
    report?.send(exitCode);
    process.exit(exitCode);
  }
}

function insist<T>(step: () => T): T {
  return step();
}

function logAndGoOn<T>(step: () => T): T | undefined {
  try {
    return step();
  } catch (error) {
    log.error(`Going on without: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

/** Starts the daemon that -d asks for, and ends as it reports. */
function becomeParent(options: RunOptions, directory: string): void {
  const print = (text: string): void => {
    process.stderr.write(text);
  };
  void startDaemon(path.resolve(program), daemonArguments(options, args, directory), program, print).then(
    (exitCode) => {
      process.exit(exitCode);
    },
  );
}

/** Says why there is no start, and returns the exit code for it. */
function explain(error: unknown): number {
  if (error instanceof LogSettingError) {
    // Not through the log, which is what could not be set up; this is what libvirt's unhandled errors look like.
    process.stderr.write(`libvirt:  error : ${error.text}\n`, 'latin1');
    return EXIT.config;
  }
  if (error instanceof ConfigError) {
    log.error(error.message);
    return EXIT.config;
  }
  if (error instanceof StartupError) {
    log.error(error.message);
    return error.exitCode;
  }
  throw error;
}

function isWritable(file: string): boolean {
  try {
    accessSync(file, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Reads a state document as a successor would, and says what it thinks of it: see restart/successor.ts. */
function checkState(file: string): number {
  try {
    parseDocument(parseJson(readFileSync(file)));
    const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1, 2)];
    process.stdout.write(`${CHECK_BANNER}\n${formatCommand(command)}`);
    return EXIT.ok;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    process.stdout.write(`${CHECK_BANNER}\n${error instanceof DocumentError ? `${file}: ` : ''}${reason}\n`);
    return CHECK_FAILED;
  }
}

main();
