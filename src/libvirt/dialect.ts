/** Differences between libvirt versions in the bytes that a client gets. The setting `libvirt_version` chooses the dialect. */

/** As libvirt counts versions: major * 1000000 + minor * 1000 + micro. */
export type VersionNumber = number;

export interface Dialect {
  /** The version that the daemon claims. */
  readonly version: VersionNumber;
  /** The argument in the format (str1) of a prefixed error. */
  readonly detailFormat: '%s' | '%1$s';
  /** CREATE_LOCKSPACE on a lockspace that exists is an error. */
  readonly createLockspaceOnce: boolean;
  /** CREATE_LOCKSPACE and NEW stat a directory and its parents before making them, and fail on a path without a slash. */
  readonly looksForDirectories: boolean;
  /**
   * C formats error texts in a buffer of so many bytes, with the NUL. Of a system error that does not fit only the text of its errno
   * remains; any other detail is cut.
   */
  readonly errorBuffer: number;
  /** The admin program's error when client limits contradict each other. */
  readonly contradictingLimits: string;
  /** The report of a wrongly typed parameter exchanges the given and the wanted type. */
  readonly wrongTypeSwapped: boolean;
  /** The noun in errors about log outputs. Versions that say `output` also leave the paths of log files as they are. */
  readonly logOutput: 'output' | 'log output';
}

/** By the first version that speaks so. */
type KnownDialect = Omit<Dialect, 'version'> & { readonly since: VersionNumber };

const V7: KnownDialect = {
  since: 0,
  detailFormat: '%s',
  createLockspaceOnce: true,
  looksForDirectories: true,
  errorBuffer: 1024,
  contradictingLimits:
    'The overall maximum number of clients must be greater than the maximum number of clients waiting for authentication',
  wrongTypeSwapped: false,
  logOutput: 'output',
};

const V9: KnownDialect = {
  ...V7,
  since: 9_000_000,
  createLockspaceOnce: false,
  looksForDirectories: false,
  errorBuffer: Infinity,
  contradictingLimits:
    'The overall maximum number of clients waiting for authentication must not be less than the overall maximum number of clients',
  logOutput: 'log output',
};

const V11: KnownDialect = {
  ...V9,
  since: 11_003_000,
  detailFormat: '%1$s',
  contradictingLimits:
    'The overall maximum number of clients must not be less than the number of clients waiting for authentication',
};

const V12: KnownDialect = { ...V11, since: 12_008_000, wrongTypeSwapped: true };

const DIALECTS: readonly KnownDialect[] = [V12, V11, V9, V7];

/** The version that the daemon claims unless its configuration says otherwise. */
export const DEFAULT_VERSION = '12.8.0';
export const DEFAULT_VERSION_NUMBER: VersionNumber = 12_008_000;

/** Reads `X.Y.Z` (each part at most three digits). Returns null for anything else. */
export function parseVersion(text: string): VersionNumber | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  const [, major, minor, micro] = match;
  return Number(major) * 1_000_000 + Number(minor) * 1000 + Number(micro);
}

/** That of the newest known version that is not newer. */
export function dialectOf(version: VersionNumber): Dialect {
  return { ...(DIALECTS.find(({ since }) => since <= version) ?? V7), version };
}
