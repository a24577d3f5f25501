/** Brings the daemon up, fresh or from a state document, and ties signals to what they do. */
import { mkdirSync } from 'node:fs';
import os from 'node:os';
import { LogSettings } from '../admin/log-settings.ts';
import { posix } from '../posix/posix.ts';
import { parseVersion } from '../rpc/dialect.ts';
import { adoptState } from '../restart/adopt.ts';
import { setCloseOnExec } from '../restart/close-on-exec.ts';
import { descriptorsOf } from '../restart/capture.ts';
import type { OwnState, StateDocument } from '../restart/document.ts';
import { magicOf, parseDocument, parseJson } from '../restart/parse.ts';
import { Reexec } from '../restart/reexec.ts';
import { readStateFile, removeStateFile, StateFileError } from '../restart/state-file.ts';
import type { DaemonConfig } from './config.ts';
import { Daemon, type DaemonSettings, type ServerShape } from './daemon.ts';
import { EXIT, StartupError } from './exit.ts';
import { LogSettingError } from './log/levels.ts';
import { logger, logging } from './log/log.ts';
import type { LogState } from './log/logging.ts';
import type { RunOptions } from './options.ts';
import type { DaemonPaths } from './paths.ts';
import { listenAt, SocketError } from './sockets.ts';

const log = logger('locking.lock_daemon');
const { SIGUSR1 } = os.constants.signals;

export interface ServeInput {
  /** The absolute path by which the daemon was started, its links not resolved. */
  readonly program: string;
  /** The name that messages begin with. */
  readonly argv0: string;
  readonly args: readonly string[];
  readonly options: RunOptions;
  readonly paths: DaemonPaths;
  readonly config: DaemonConfig;
  readonly configFile: string;
}

/** @throws StartupError */
export function serve(input: ServeInput): void {
  const { options, paths, config } = input;
  const predecessor = readPredecessor(paths.state);
  const started = predecessor?.own?.started ?? Date.now();
  const restarts = predecessor === null ? 0 : (predecessor.own?.restarts ?? 0) + 1;

  makeRunDirectory(paths);
  const version = parseVersion(config.libvirtVersion);
  if (version === null) throw new StartupError(EXIT.config, `Unknown version ${config.libvirtVersion}`);
  const logSettings = new LogSettings(logging);
  if (predecessor?.own?.log !== undefined) restoreLog(logSettings, predecessor.own.log);
  const settings: DaemonSettings = {
    version,
    maxClients: config.maxClients,
    adminMaxClients: config.adminMaxClients,
    timeout: options.timeout,
    logging: logSettings,
    onTimeout: () => {
      void end();
    },
    onShutdown: () => {
      void end();
    },
  };
  const daemon = predecessor === null ? new Daemon(settings) : resume(settings, predecessor);
  if (predecessor === null) listen(daemon, paths);
  if (predecessor?.own?.timeout !== undefined) daemon.setTimeout(predecessor.own.timeout);

  const reexec = new Reexec({
    daemon,
    program: input.program,
    args: input.args,
    stateFile: paths.state,
    ownState: (): OwnState => ({
      restarts,
      started,
      ...(daemon.changedTimeout === undefined ? {} : { timeout: daemon.changedTimeout }),
      ...(logSettings.state === undefined ? {} : { log: logSettings.state }),
    }),
  });

  let ending = false;
  async function end(): Promise<void> {
    if (ending) return;
    ending = true;
    await daemon.shutdown();
    process.exit(EXIT.ok);
  }
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const) {
    process.on(signal, () => {
      void end();
    });
  }
  process.on('SIGUSR1', () => {
    if (!ending) void reexec.request();
  });
  daemon.start();
  // Blocked since before this program began: one that came meanwhile is delivered now.
  posix.blockSignal(SIGUSR1, false);
  log.info(`Serving at ${paths.socket} and ${paths.adminSocket}`);
}

/** Settings that cannot be made again, such as a file that is gone, are no reason not to serve. */
function restoreLog(settings: LogSettings, state: LogState): void {
  try {
    settings.restore(state);
  } catch (error) {
    if (!(error instanceof LogSettingError)) throw error;
    log.error(`Log settings are lost: ${error.message}`);
  }
}

/** The document that this very process left before it executed us, if any. */
function readPredecessor(stateFile: string): StateDocument | null {
  let json: unknown;
  try {
    const bytes = readStateFile(stateFile);
    if (bytes === null) return null;
    removeStateFile(stateFile);
    json = parseJson(bytes);
    if (magicOf(json) !== String(process.pid)) {
      log.warn(`Found restart state of process ${magicOf(json) ?? '?'} in ${stateFile}: not this one's, removed`);
      return null;
    }
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    log.warn(`Ignoring restart state: ${error.message}`);
    if (!(error instanceof StateFileError)) removeStateFile(stateFile);
    return null;
  }
  try {
    return parseDocument(json);
  } catch (error) {
    throw new StartupError(EXIT.initialize, `Unable to restore the state: ${(error as Error).message}`);
  }
}

function resume(settings: DaemonSettings, document: StateDocument): Daemon {
  setCloseOnExec(descriptorsOf(document), true);
  const shape = (server: StateDocument['lockServer']): ServerShape => ({
    maxClients: server.max_clients,
    maxAnonymousClients: server.max_anonymous_clients,
    nextClientId: server.next_client_id,
  });
  const daemon = new Daemon(settings, {
    lock: shape(document.lockServer),
    ...(document.adminServer === null ? {} : { admin: shape(document.adminServer) }),
  });
  adoptState(daemon, document);
  log.info(`Resumed with ${daemon.lockServer.clients.size} clients and ${daemon.lockspaces.count} locks`);
  return daemon;
}

function makeRunDirectory({ runDirectory, runDirectoryMode }: DaemonPaths): void {
  try {
    mkdirSync(runDirectory, { recursive: true, mode: runDirectoryMode });
  } catch (error) {
    throw new StartupError(EXIT.runDirectory, `unable to create rundir ${runDirectory}: ${(error as Error).message}`);
  }
}

function listen(daemon: Daemon, { socket, adminSocket }: DaemonPaths): void {
  try {
    daemon.lockServer.addListener(listenAt(socket));
    daemon.adminServer.addListener(listenAt(adminSocket));
  } catch (error) {
    if (error instanceof SocketError) throw new StartupError(EXIT.network, error.message);
    throw error;
  }
}
