/** Filters: from which level on a source logs. */

import { matchesGlob } from './glob.ts';
import { LogSettingError, parsePriority } from './levels.ts';
import type { Level } from './levels.ts';

export interface LogFilter {
  readonly level: Level;
  /** A shell pattern for the whole name of a source: as in C, the given match between two `*`. */
  readonly pattern: string;
}

/**
 * Parses `N:match N:match …`. The old `N:+match` means the same. Ignores a second colon and the text behind it.
 *
 * @param exact refuses a second colon, as libvirt 7.0.0 does
 * @throws LogSettingError
 */
export function parseFilters(text: string, exact = false): LogFilter[] {
  return tokens(text).map((token) => {
    const [priority = '', match, ...rest] = token.split(':');
    if (match === undefined || (exact && rest.length > 0)) {
      throw new LogSettingError(`Malformed format for filter '${token}'`);
    }
    const level = parsePriority(priority);
    if (level === undefined) throw new LogSettingError(`Invalid priority '${priority}' for filter '${token}'`);
    const name = match.startsWith('+') ? match.slice(1) : match;
    if (name === '') throw new LogSettingError(`Invalid match string '${match}'`);
    return { level, pattern: `*${name}*` };
  });
}

/** The words of a setting: C separates them at blanks alone. */
export function tokens(text: string): string[] {
  return text.split(' ').filter((token) => token !== '');
}

/** The filters as the admin program returns them: each with a blank behind it. */
export function formatFilters(filters: readonly LogFilter[]): string {
  return filters.map(({ level, pattern }) => `${level}:${pattern} `).join('');
}

/** The level that the first matching filter sets for a source, else `otherwise`. */
export function levelFor(source: string, filters: readonly LogFilter[], otherwise: Level): Level {
  return filters.find(({ pattern }) => matchesGlob(source, pattern))?.level ?? otherwise;
}
