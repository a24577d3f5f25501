/** virtlockd.conf: its settings, their defaults, and the loader. */

import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { ByteString } from '../../../xdr/codec.ts';
import { DEFAULT_VERSION } from '../../libvirt/dialect.ts';
import { DEFAULT_LOCK_WATCH, type LockWatchSettings } from '../../lockspace/lock-watch.ts';
import { MAX_FILE } from '../../libvirt/limits.ts';
import { toPath } from '../../posix/bytes.ts';
import type { Outcome, Program } from '../../posix/child.ts';
import {
  contradictionIn,
  DEFAULT_ETCD,
  type EtcdSettings,
  MAX_LEASE,
  MIN_LEASE,
  normalPath,
} from '../../etcd/settings.ts';
import { strerror } from '../../posix/posix.ts';
import { ConfigError, parseConfigEntries } from './config-grammar.ts';
import type { ConfigValue } from './config-grammar.ts';

export { ConfigError } from './config-grammar.ts';

/** The settings of one file, defaults filled in. */
export interface DaemonConfig {
  /** 1 debug to 4 error; undefined when not set, or 0, which is the same to C. Not checked here. */
  logLevel: number | undefined;
  /** As written: the logger parses them. Undefined when empty. */
  logFilters: string | undefined;
  logOutputs: string | undefined;
  maxClients: number;
  adminMaxClients: number;
  /** The libvirt version to imitate, as `X.Y.Z`. */
  libvirtVersion: string;
  /** Seconds between two questions to a file server about a lock; 0: none is asked. */
  lockConfirmInterval: number;
  /** What becomes of the owners of a lock that another host has got. */
  lostLocks: 'report' | 'end';
  /** Null: no lockspace is kept in etcd. */
  etcd: EtcdSettings | null;
}

export const DEFAULT_CONFIG: Readonly<DaemonConfig> = {
  logLevel: undefined,
  logFilters: undefined,
  logOutputs: undefined,
  maxClients: 1024,
  adminMaxClients: 5000,
  libvirtVersion: DEFAULT_VERSION,
  lockConfirmInterval: DEFAULT_LOCK_WATCH.interval,
  lostLocks: DEFAULT_LOCK_WATCH.endsOwners ? 'end' : 'report',
  etcd: null,
};

/**
 * Reads the text of a configuration file.
 *
 * @param file its name in errors
 * @throws ConfigError without the `: FILE` that C appends
 */
export function parseConfig(text: string, file: string): DaemonConfig {
  const entries = parseConfigEntries(text, file);
  const read = new SettingReader(entries, file);
  // In C's order, so that of two mistakes the same one is reported.
  const logLevel = read.unsigned('log_level');
  const logFilters = read.string('log_filters');
  const logOutputs = read.string('log_outputs');
  const maxClients = read.unsigned('max_clients');
  const adminMaxClients = read.unsigned('admin_max_clients');
  const libvirtVersion = read.version('libvirt_version');
  const lockConfirmInterval = read.seconds('lock_confirm_interval');
  const lostLocks = read.oneOf('lost_locks', ['report', 'end'] as const);
  const etcd = readEtcd(read);
  return {
    logLevel: logLevel === 0 ? undefined : logLevel,
    logFilters: logFilters === '' ? undefined : logFilters,
    logOutputs: logOutputs === '' ? undefined : logOutputs,
    maxClients: maxClients ?? DEFAULT_CONFIG.maxClients,
    adminMaxClients: adminMaxClients ?? DEFAULT_CONFIG.adminMaxClients,
    libvirtVersion: libvirtVersion ?? DEFAULT_CONFIG.libvirtVersion,
    lockConfirmInterval: lockConfirmInterval ?? DEFAULT_CONFIG.lockConfirmInterval,
    lostLocks: lostLocks ?? DEFAULT_CONFIG.lostLocks,
    etcd,
  };
}

/** Checks every setting, also when there are no endpoints and all of it is off. */
function readEtcd(read: SettingReader): EtcdSettings | null {
  const settings: EtcdSettings = {
    endpoints: read.strings('etcd_endpoints') ?? DEFAULT_ETCD.endpoints,
    lockspaces: (read.strings('etcd_lockspaces') ?? DEFAULT_ETCD.lockspaces).map(normalPath),
    prefix: read.string('etcd_prefix') ?? DEFAULT_ETCD.prefix,
    leaseSeconds: read.between('etcd_lease_seconds', MIN_LEASE, MAX_LEASE) ?? DEFAULT_ETCD.leaseSeconds,
    caFile: read.string('etcd_ca_file') ?? DEFAULT_ETCD.caFile,
    certFile: read.string('etcd_cert_file') ?? DEFAULT_ETCD.certFile,
    keyFile: read.string('etcd_key_file') ?? DEFAULT_ETCD.keyFile,
    user: read.string('etcd_user') ?? DEFAULT_ETCD.user,
    password: read.string('etcd_password') ?? DEFAULT_ETCD.password,
    passwordFile: read.string('etcd_password_file') ?? DEFAULT_ETCD.passwordFile,
    fence: read.oneOf('etcd_fence', ['kill', 'reboot'] as const) ?? DEFAULT_ETCD.fence,
    watchdog: read.string('etcd_watchdog') ?? DEFAULT_ETCD.watchdog,
  };
  const contradiction = contradictionIn(settings);
  if (contradiction !== undefined) throw read.refuse(contradiction);
  return settings.endpoints.length === 0 ? null : settings;
}

/** How locks on storage that hosts may share are confirmed. */
export function lockWatchOf({ lockConfirmInterval, lostLocks }: DaemonConfig): LockWatchSettings {
  return { interval: lockConfirmInterval, endsOwners: lostLocks === 'end' };
}

/**
 * Loads a file. A missing one gives the defaults unless `required`.
 *
 * @throws ConfigError whose message is the text C logs: `Can't load config file: <reason>: FILE`
 */
export function loadConfig(file: ByteString, required: boolean): DaemonConfig {
  return configOf(file, () => readConfigFile(file, required)?.toString('latin1'));
}

/**
 * As {@link loadConfig}, of a file on storage that may hang, which a child has read.
 *
 * @throws ConfigError
 */
export function configReadBy({ status, output, end }: Outcome, file: ByteString, required: boolean): DaemonConfig {
  return configOf(file, () => {
    if (status === 0) {
      refuseTooLarge(output.length, file);
      return output;
    }
    const found = /: ([^:]*)\n$/.exec(output)?.[1];
    if (found === strerror(constants.errno.ENOENT) && !required) return undefined;
    throw new ConfigError(`Failed to read file '${file}': ${status === null ? `reading it ${end}` : (found ?? end)}`);
  });
}

/** The program whose end {@link configReadBy} gets. */
export function configReader(file: ByteString, limit: number): Program {
  return { file: 'cat', args: ['--', file], directory: '/', limit, withErrors: true, outputMax: MAX_FILE + 1 };
}

function configOf(file: ByteString, read: () => ByteString | undefined): DaemonConfig {
  try {
    const text = read();
    return text === undefined ? { ...DEFAULT_CONFIG } : parseConfig(text, file);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`Can't load config file: ${error.message}: ${file}`);
  }
}

function readConfigFile(file: ByteString, required: boolean): Buffer | undefined {
  try {
    const bytes = readFileSync(toPath(file));
    refuseTooLarge(bytes.length, file);
    return bytes;
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && !required) return undefined;
    const verb = syscall === 'read' ? 'read' : 'open';
    throw new ConfigError(`Failed to ${verb} file '${file}': ${reason(error as NodeJS.ErrnoException)}`);
  }
}

function refuseTooLarge(length: number, file: ByteString): void {
  if (length > MAX_FILE) throw new ConfigError(`Failed to read file '${file}': Value too large for defined data type`);
}

/** strerror's text, which is not Node's. */
function reason({ errno, message }: NodeJS.ErrnoException): string {
  return errno === undefined ? message : strerror(errno);
}

const MAX_SECONDS = 86_400;

/** Reads settings by kind, with C's errors for wrong ones. */
class SettingReader {
  private readonly entries: ReadonlyMap<string, ConfigValue>;
  private readonly file: string;

  constructor(entries: ReadonlyMap<string, ConfigValue>, file: string) {
    this.entries = entries;
    this.file = file;
  }

  refuse(text: string): ConfigError {
    return new ConfigError(`internal error: ${this.file}: ${text}`);
  }

  unsigned(name: string): number | undefined {
    const entry = this.entries.get(name);
    if (entry === undefined) return undefined;
    if (entry.kind !== 'number' || entry.signed) {
      throw this.refuse(`expected an unsigned integer for '${name}' parameter`);
    }
    if (entry.value > 0xffffffffn) throw this.refuse(`value for '${name}' parameter must be in range 0:4294967295`);
    return Number(entry.value);
  }

  string(name: string): string | undefined {
    const entry = this.entries.get(name);
    if (entry === undefined) return undefined;
    if (entry.kind !== 'string') throw this.refuse(`expected a string for '${name}' parameter`);
    return entry.value;
  }

  /** Not a setting of C. At most a day. */
  seconds(name: string): number | undefined {
    return this.between(name, 0, MAX_SECONDS);
  }

  /** Not a setting of C. */
  between(name: string, least: number, most: number): number | undefined {
    const value = this.unsigned(name);
    if (value !== undefined && (value < least || value > most))
      throw this.refuse(`value for '${name}' parameter must be in range ${least}:${most}`);
    return value;
  }

  /** A list, or a string for a list of one, as in C's other files. */
  strings(name: string): string[] | undefined {
    const entry = this.entries.get(name);
    if (entry === undefined) return undefined;
    const values = entry.kind === 'list' ? entry.value : [entry];
    return values.map((value) => {
      if (value.kind === 'string') return value.value;
      throw this.refuse(`expected a list of strings for '${name}' parameter`);
    });
  }

  /** Not a setting of C. */
  oneOf<T extends string>(name: string, words: readonly T[]): T | undefined {
    const text = this.string(name);
    const found = words.find((word) => word === text);
    if (text !== undefined && found === undefined) {
      const expected = words.map((word) => `"${word}"`).join(' or ');
      throw this.refuse(`expected ${expected} for '${name}' parameter`);
    }
    return found;
  }

  /** Not a setting of C. */
  version(name: string): string | undefined {
    const text = this.string(name);
    if (text === undefined) return undefined;
    if (!/^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}$/.test(text)) {
      throw this.refuse(`expected a version such as "12.8.0" for '${name}' parameter`);
    }
    return text;
  }
}
