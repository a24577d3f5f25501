/** The log's settings at start: configuration, environment, command line, in rising precedence. */

import { Level, LogSettingError } from './levels.ts';
import type { Logging } from './logging.ts';
import { defaultOutputs, type Surroundings } from './output-spec.ts';

export interface LogSetup extends Surroundings {
  readonly verbose: boolean;
  readonly config: {
    readonly logLevel: number | undefined;
    readonly logFilters: string | undefined;
    readonly logOutputs: string | undefined;
  };
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** The log, or a stand-in that only checks the settings. */
export type LogTarget = Pick<
  Logging,
  'defaultLevel' | 'defaultOutput' | 'setLevel' | 'setFilters' | 'setOutputs' | 'write'
>;

/**
 * Applies the settings in C's order, because the first mistake is the one reported. When a configuration is read again, the caller
 * keeps `logging.state`, and applies that if this throws.
 *
 * @throws LogSettingError which C reports as `libvirt:  error : <text>` on standard error, exit 1
 */
export function setUpLogging(logging: LogTarget, setup: LogSetup): void {
  const { config, environment } = setup;
  logging.setLevel(config.logLevel ?? Level.WARNING);
  logging.setFilters(config.logFilters ?? '');
  const configured = config.logOutputs;
  if (configured !== undefined && configured.trim() !== '') logging.setOutputs(configured);
  try {
    const level = environment.LIBVIRT_DEBUG ?? '';
    if (level !== '') logging.setLevel(level);
    if (setup.verbose && logging.defaultLevel > Level.INFO) logging.setLevel(Level.INFO);
    logging.defaultOutput = defaultOutputs({ ...setup, level: logging.defaultLevel });
    const filters = environment.LIBVIRT_LOG_FILTERS ?? '';
    if (filters !== '') logging.setFilters(filters);
    const outputs = environment.LIBVIRT_LOG_OUTPUTS ?? '';
    if (outputs.trim() !== '') logging.setOutputs(outputs);
    else if (configured === undefined || configured.trim() === '') logging.setOutputs('');
  } catch (error) {
    // As in C: if outputs are set already, the error goes there too.
    if (error instanceof LogSettingError && configured !== undefined) {
      logging.write(Level.ERROR, 'util.log', error.text, { name: 'setUpLogging', file: 'log/setup.ts', line: 1 });
    }
    throw error;
  }
}
