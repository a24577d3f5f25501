/** The program's entry: command line and exit codes. Started by bin/virtlockd through start.cjs. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ByteString } from '../../../xdr/codec.ts';
import { closeOwn, isHeld, openOwn } from '../../lockspace/files.ts';
import { toPath } from '../../posix/bytes.ts';
import { exitProcess } from '../../posix/exit.ts';
import { posix } from '../../posix/posix.ts';
import { CHECK_BANNER, wantsReport } from '../../restart/answers.ts';
import { whatWasLoaded } from '../../restart/build.ts';
import { checkState } from './check-state.ts';
import { readDeath } from '../../restart/death.ts';
import { readPredecessor } from '../../restart/predecessor.ts';
import { dialectOf, parseVersion } from '../../libvirt/dialect.ts';
import { ConfigError, type DaemonConfig, DEFAULT_CONFIG, loadConfig } from './config.ts';
import { absoluteArguments, startDaemon, takeStartReport } from './daemonize.ts';
import { EXIT, StartupError } from '../../libvirt/exit.ts';
import { LogSettingError } from '../../log/levels.ts';
import { logger, logging } from '../../log/log.ts';
import { setUpLogging } from '../../log/setup.ts';
import { parseOptions, type RunOptions, usageText, versionText } from './options.ts';
import { isPrivileged, isWritable, pathsFor } from './own-paths.ts';
import { makeRunDirectory } from './run-directory.ts';
import { serve } from './serve.ts';
import { absolutePath, commandLine, environmentOf, workingDirectory } from './surroundings.ts';
import { loadConfigInTime, loadOwnConfig } from './reload.ts';
import { type Environment, sortActivation, sortStored, takeListenDescriptors } from './systemd.ts';

const log = logger('locking.lock_daemon');

/** Between two starts by systemd that fail, in milliseconds. */
const FAILED_START_PAUSE_MS = 1000;

/** The path that the program was started by, unresolved, and its arguments: see bin/virtlockd. */
const [program = 'virtlockd', ...args] = commandLine(process.argv.slice(2));

function main(): void {
  const parsed = parseOptions(args);
  switch (parsed.kind) {
    case 'help':
      process.stderr.write(usageText(program, isPrivileged()), 'latin1');
      process.exit(EXIT.ok);
      break;
    case 'version':
      // A daemon that asks must not take this program for a C daemon.
      if (wantsReport()) process.stdout.write(`${CHECK_BANNER}\n`);
      process.stdout.write(versionText(program, configuredVersion(parsed.options)), 'latin1');
      process.exit(EXIT.ok);
      break;
    case 'usage':
      process.stderr.write(`${program}: ${parsed.text}\n${usageText(program, isPrivileged())}`, 'latin1');
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

/** The version to print. In place of a broken configuration the default one counts. */
function configuredVersion({ config, root }: RunOptions): string {
  const directory = workingDirectory();
  const standard = pathsFor(environmentOf(process.env, directory), rootAt(root, directory)).config;
  for (const file of new Set([config ?? standard, standard])) {
    try {
      return loadConfig(file, config !== undefined).libvirtVersion;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
    }
  }
  return DEFAULT_CONFIG.libvirtVersion;
}

function rootAt(root: ByteString | undefined, directory: ByteString | null): ByteString | undefined {
  return root === undefined ? undefined : absolutePath(root, directory);
}

function run(options: RunOptions): void {
  const here = workingDirectory();
  const environment = environmentOf(process.env, here);
  const isService = environment.NOTIFY_SOCKET !== undefined;
  // Removed from the environment before a child can inherit them.
  const report = takeStartReport(environment);
  const passed = takeListenDescriptors(environment, process.pid);
  const directory = report?.directory ?? here;
  const paths = pathsFor(environment, rootAt(options.root, directory));
  if (options.pidFile !== undefined) paths.pidFile = options.pidFile;
  const configFile = options.config ?? paths.config;
  const setUpLog = (config: DaemonConfig): void => {
    setUpLogging(logging, {
      verbose: options.verbose,
      config,
      environment,
      daemonized: options.daemonize,
      journal: isWritable(paths.journal),
      stdinIsTerminal: posix.isTerminal(0),
      logFile: paths.log,
    });
  };
  try {
    logging.directory = directory;
    logging.useSockets(paths);
    logging.useFiles({ isHeld, open: (file, flags) => openOwn(file, flags, 'log output'), close: closeOwn });
    const left = readPredecessor(paths.state, passed.length > 0);
    const { stored, others } = sortStored(passed);
    const activation = sortActivation(others);
    const death = left === null && stored.size > 0 ? readDeath(stored, activation) : null;
    const predecessor = left ?? death?.predecessor ?? null;
    if (predecessor !== null) logging.beginServing();
    // In a re-execution wrong settings do not end the daemon, which would lose every lock.
    const tolerant = predecessor === null ? insist : logAndGoOn;
    const load = predecessor === null ? loadOwnConfig : loadConfigInTime;
    const config = tolerant(() => load(configFile, options.config !== undefined)) ?? { ...DEFAULT_CONFIG };
    const number = parseVersion(config.libvirtVersion) ?? 0;
    logging.version = { text: config.libvirtVersion, number };
    logging.outputNoun = dialectOf(number).logOutput;
    // A session makes its own directory; /var/log/libvirt is the package's, and C refuses to start without it.
    if (options.daemonize && !isPrivileged()) mkdirSync(toPath(dirname(paths.log)), { recursive: true, mode: 0o700 });
    tolerant(() => {
      setUpLog(config);
      makeRunDirectory(paths.runDirectory, paths.runDirectoryMode, isPrivileged());
    });
    for (const complaint of whatWasLoaded()?.complaints ?? []) log.error(`Damaged installation: ${complaint}`);
    if (options.daemonize && report === undefined && predecessor === null) {
      becomeParent(options, environment, directory);
      return;
    }
    serve({
      program: absolutePath(program, directory),
      args: absoluteArguments(options, args, directory),
      environment,
      options,
      paths,
      config,
      configFile,
      predecessor,
      death,
      discarded: death === null ? stored : new Map(),
      activation,
      setUpLog,
    });
    logging.beginServing();
    report?.send(EXIT.ok);
  } catch (error) {
    const exitCode = explain(error);
    report?.send(exitCode);
    // The unit has systemd start the daemon again at once, however often that fails.
    if (isService) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FAILED_START_PAUSE_MS);
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

/** -d: starts the daemon, and exits with its report. */
function becomeParent(options: RunOptions, environment: Readonly<Environment>, directory: ByteString | null): void {
  const words = [absolutePath(program, directory), ...absoluteArguments(options, args, directory)];
  const print = (text: ByteString): void => {
    process.stderr.write(text, 'latin1');
  };
  // The caller may want to interrupt the start.
  posix.releaseSignals();
  void startDaemon({ words, environment, directory, argv0: program, print }).then((exitCode) => {
    process.exit(exitCode);
  });
}

/** Logs the error, and returns the exit code. */
function explain(error: unknown): number {
  if (error instanceof LogSettingError) {
    // Not to the log, which could not be set up; libvirt prints unhandled errors in this form.
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

main();
