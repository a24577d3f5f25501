/** The four levels of libvirt's log, and how settings spell them. */

export const Level = { DEBUG: 1, INFO: 2, WARNING: 3, ERROR: 4 } as const;
export type Level = (typeof Level)[keyof typeof Level];

const NAMES: Readonly<Record<Level, string>> = {
  [Level.DEBUG]: 'debug',
  [Level.INFO]: 'info',
  [Level.WARNING]: 'warning',
  [Level.ERROR]: 'error',
};

export function levelName(level: Level): string {
  return NAMES[level];
}

/** The level with that number, or undefined. */
function levelOf(value: number): Level | undefined {
  return value >= Level.DEBUG && value <= Level.ERROR && Number.isInteger(value) ? (value as Level) : undefined;
}

/** The number of a level in filters and outputs: as strtoul(3) reads it, all of the text, without a minus. */
export function parsePriority(text: string): Level | undefined {
  return /^[\t\n\v\f\r ]*\+?[0-9]+$/.test(text) ? levelOf(Number(text)) : undefined;
}

/** A refused change of the log's settings, which are as before. */
export class LogSettingError extends Error {
  override name = 'LogSettingError';
  /** Positive when the system refused (an RPC error of code 38), 0 when the setting is bad (code 8, `invalid argument`). */
  readonly errno: number;

  /** @param detail the text without its `invalid argument: ` */
  constructor(detail: string, errno = 0) {
    super(detail);
    this.errno = errno;
  }

  /** As libvirt's programs print it. */
  get text(): string {
    return this.errno === 0 ? `invalid argument: ${this.message}` : this.message;
  }
}

/** The level that LIBVIRT_DEBUG or log_level names. */
export function parseLevel(text: string): Level {
  const named = Object.values(Level).find((level) => text === NAMES[level]);
  const level = named ?? parsePriority(text);
  if (level === undefined) {
    throw new LogSettingError(`Failed to set logging priority, argument '${text}' is invalid`);
  }
  return level;
}
