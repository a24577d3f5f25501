/** Filters: which sources log from which level on. Pure. */

import { LogSettingError, parsePriority } from './levels.ts';
import type { Level } from './levels.ts';

export interface LogFilter {
  readonly level: Level;
  /** A shell pattern for the whole name of a source, as C stores it: `*` on both sides of what was given. */
  readonly pattern: string;
}

/**
 * Parses `N:match N:match …`. The old `N:+match` means the same. What follows a second colon is not looked at.
 * @param exact refuse a second colon, as libvirt 7.0.0 does
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

/** The words of a setting: C separates them at blanks, and at nothing else. */
export function tokens(text: string): string[] {
  return text.split(' ').filter((token) => token !== '');
}

/** The filters as they are given back: each with a blank behind it. */
export function formatFilters(filters: readonly LogFilter[]): string {
  return filters.map(({ level, pattern }) => `${level}:${pattern} `).join('');
}

/** The level that the first matching filter sets for a source, else `otherwise`. */
export function levelFor(source: string, filters: readonly LogFilter[], otherwise: Level): Level {
  return filters.find(({ pattern }) => matchesGlob(source, pattern))?.level ?? otherwise;
}

/** fnmatch(3) without flags, as far as log sources need it: `*`, `?`, `[…]` and the backslash. */
export function matchesGlob(name: string, pattern: string): boolean {
  let regex = '';
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern.charAt(at);
    const set = character === '[' ? /^\[([!^]?)(\]?[^\]]*)\]/.exec(pattern.slice(at)) : null;
    if (character === '*') {
      // Runs of stars collapse, so that no pattern takes exponential time.
      if (pattern.charAt(at + 1) !== '*') regex += '[^]*?';
    } else if (character === '?') {
      regex += '[^]';
    } else if (set !== null) {
      const [whole, negated, members = ''] = set;
      regex += `[${negated === '' ? '' : '^'}${members.replace(/[\\\]^[]/g, '\\$&')}]`;
      at += whole.length - 1;
    } else if (character === '\\' && at + 1 < pattern.length) {
      at++;
      regex += literal(pattern.charAt(at));
    } else {
      regex += literal(character);
    }
  }
  try {
    return new RegExp(`^${regex}$`).test(name);
  } catch {
    return false; // a set whose range runs backwards matches nothing
  }
}

function literal(character: string): string {
  return character.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&');
}
