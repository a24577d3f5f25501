/** SIGHUP: reads the log settings and limits of the configuration again. (It kills the C daemon.) */
import type { ByteString } from '../../../xdr/codec.ts';
import { isHeld } from '../../lockspace/files.ts';
import { protectPath } from '../../lockspace/own-files.ts';
import { ConfigError, type DaemonConfig, loadConfig } from './config.ts';
import type { Daemon } from '../../daemon/daemon.ts';
import { LogSettingError } from '../../log/levels.ts';
import { logger, logging } from '../../log/log.ts';

const log = logger('locking.lock_daemon');

interface ReloadInput {
  readonly daemon: Pick<Daemon, 'lockServer' | 'adminServer'>;
  readonly configFile: ByteString;
  /** The command line names the file, so it must exist. */
  readonly required: boolean;
  /** Applies the log settings of configuration, environment and command line. */
  readonly setUpLog: (config: DaemonConfig) => void;
}

/** As {@link loadConfig}, but refuses a held resource: the close would drop its lock. @throws ConfigError */
export function loadOwnConfig(file: ByteString, required: boolean): DaemonConfig {
  if (isHeld(file)) throw new ConfigError(`${file} is a held resource`);
  const config = loadConfig(file, required);
  protectPath(file, 'configuration');
  return config;
}

/** Applies the configuration, or leaves everything as it is and logs the error. */
export function reload({ daemon, configFile, required, setUpLog }: ReloadInput): void {
  const before = logging.state;
  let config: DaemonConfig;
  try {
    config = loadOwnConfig(configFile, required);
    setUpLog(config);
    logging.isChanged = false;
  } catch (error) {
    if (error instanceof LogSettingError) logging.apply(before);
    else if (!(error instanceof ConfigError)) throw error;
    log.error(`Configuration is not taken up: ${error instanceof LogSettingError ? error.text : error.message}`);
    return;
  }
  const servers = [
    [daemon.lockServer, config.maxClients],
    [daemon.adminServer, config.adminMaxClients],
  ] as const;
  for (const [server, maxClients] of servers) server.setLimits({ maxClients, maxAnonymousClients: maxClients });
  log.info(`Configuration taken up from ${configFile}`);
}
