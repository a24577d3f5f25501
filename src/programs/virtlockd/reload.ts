/** SIGHUP: the configuration's log settings and limits are taken up again. (It kills the C daemon.) */

import type { ByteString } from '../../../xdr/codec.ts';
import { isHeld } from '../../lockspace/files.ts';
import { protectPath } from '../../lockspace/own-files.ts';
import { ConfigError, loadConfig } from './config.ts';
import type { DaemonConfig } from './config.ts';
import type { Daemon } from '../../daemon/daemon.ts';
import { LogSettingError } from '../../log/levels.ts';
import { logger, logging } from '../../log/log.ts';

const log = logger('locking.lock_daemon');

interface ReloadInput {
  readonly daemon: Pick<Daemon, 'lockServer' | 'adminServer'>;
  readonly configFile: ByteString;
  /** The file was asked for, so it must be there. */
  readonly required: boolean;
  /** Puts the log's settings together: configuration, environment, command line. */
  readonly setUpLog: (config: DaemonConfig) => void;
}

/** As {@link loadConfig}, but what is held as a resource is not read: with the close it would lose its lock. @throws ConfigError */
export function loadOwnConfig(file: ByteString, required: boolean): DaemonConfig {
  if (isHeld(file)) throw new ConfigError(`${file} is a held resource`);
  const config = loadConfig(file, required);
  protectPath(file, 'configuration');
  return config;
}

/** Takes up the configuration, or leaves everything as it is and says why in the log. */
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
