/** SIGHUP: reads the log settings, limits and how locks are confirmed from the configuration again. (It kills the C daemon.) */
import type { ByteString } from '../../../xdr/codec.ts';
import { isHeld } from '../../lockspace/files.ts';
import { protectPath } from '../../lockspace/own-files.ts';
import { runChild, runChildAtOnce, SpawnError } from '../../posix/child.ts';
import { mayHang } from '../../proc/route.ts';
import { ConfigError, configReadBy, configReader, type DaemonConfig, loadConfig, lockWatchOf } from './config.ts';
import type { Daemon } from '../../daemon/daemon.ts';
import { LogSettingError } from '../../log/levels.ts';
import { logger, logging } from '../../log/log.ts';
import type { LogState } from '../../log/logging.ts';

const log = logger('locking.lock_daemon');

interface ReloadInput {
  readonly daemon: Pick<Daemon, 'lockServer' | 'adminServer' | 'lockWatch'>;
  readonly configFile: ByteString;
  /** The command line names the file, so it must exist. */
  readonly required: boolean;
  /** Applies the log settings of configuration, environment and command line. */
  readonly setUpLog: (config: DaemonConfig) => void;
}

/** How long a child may take to read a configuration from storage that may hang, in milliseconds. Clients are served all the while. */
const READ_LIMIT_MS = 5000;
/** The same for the configuration of a program that was just executed: clients wait. */
const RESTART_LIMIT_MS = 500;

/** The configuration of a program that takes over. It is read by a child if its storage may hang. @throws ConfigError */
export function loadConfigInTime(file: ByteString, required: boolean): DaemonConfig {
  if (!mayHang(file)) return loadOwnConfig(file, required);
  return configReadBy(runChildAtOnce(configReader(file, RESTART_LIMIT_MS)), file, required);
}

/** As {@link loadConfig}, but refuses a held resource: the close would drop its lock. @throws ConfigError */
export function loadOwnConfig(file: ByteString, required: boolean): DaemonConfig {
  if (isHeld(file)) throw new ConfigError(`${file} is a held resource`);
  const config = loadConfig(file, required);
  protectPath(file, 'configuration');
  return config;
}

/** Applies the configuration, or leaves everything as it is and logs the error. */
export async function reload({ daemon, configFile, required, setUpLog }: ReloadInput): Promise<void> {
  let config: DaemonConfig;
  let before: LogState | undefined;
  try {
    config = mayHang(configFile)
      ? configReadBy(await runChild(configReader(configFile, READ_LIMIT_MS)), configFile, required)
      : loadOwnConfig(configFile, required);
    before = logging.state;
    setUpLog(config);
    logging.isChanged = false;
  } catch (error) {
    if (error instanceof LogSettingError && before !== undefined) logging.apply(before);
    else if (!(error instanceof ConfigError) && !(error instanceof SpawnError)) throw error;
    log.error(`Configuration is not taken up: ${error instanceof LogSettingError ? error.text : error.message}`);
    return;
  }
  const servers = [
    [daemon.lockServer, config.maxClients],
    [daemon.adminServer, config.adminMaxClients],
  ] as const;
  for (const [server, maxClients] of servers) server.setLimits({ maxClients, maxAnonymousClients: maxClients });
  daemon.lockWatch.configure(lockWatchOf(config));
  log.info(`Configuration taken up from ${configFile}`);
}
