/** Shell patterns of fnmatch(3) without flags, as far as log sources need them: `*`, `?`, `[…]`, backslash. */

/** A part of a pattern: matches `any` number of characters, or one that fits. */
type Part = 'any' | ((character: string) => boolean);

/**
 * Whether the pattern matches all of `name`. Takes the square of the name's length at most, however hostile the pattern is: of
 * several stars only the last needs to take more characters.
 */
export function matchesGlob(name: string, pattern: string): boolean {
  const parts = parse(pattern, name.length);
  if (parts === null) return false;
  let at = 0;
  let part = 0;
  /** The last star, and where the characters end that it has taken. */
  let star = -1;
  let taken = 0;
  while (at < name.length) {
    const wanted = parts[part];
    if (wanted === 'any') {
      star = part++;
      taken = at;
    } else if (wanted?.(name.charAt(at)) === true) {
      part++;
      at++;
    } else if (star >= 0) {
      part = star + 1;
      at = ++taken;
    } else return false;
  }
  return parts.slice(part).every((left) => left === 'any');
}

/** Null when the parts match more than `most` characters. */
function parse(pattern: string, most: number): Part[] | null {
  const parts: Part[] = [];
  let left = most;
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern.charAt(at);
    const end = character === '[' ? endOfSet(pattern, at) : -1;
    if (character === '*') {
      if (parts.at(-1) !== 'any') parts.push('any');
      continue;
    }
    if (left-- === 0) return null;
    if (character === '?') parts.push(() => true);
    else if (end > 0) {
      parts.push(inSet(pattern.slice(at + 1, end)));
      at = end;
    } else {
      if (character === '\\' && at + 1 < pattern.length) at++;
      const literal = pattern.charAt(at);
      parts.push((one) => one === literal);
    }
  }
  return parts;
}

/** The end of the set that begins at `start`; -1 when it is not closed, and so no set. A first `]` is a member. */
function endOfSet(pattern: string, start: number): number {
  const first = /[!^]/.test(pattern.charAt(start + 1)) ? start + 2 : start + 1;
  return pattern.indexOf(']', first + 1);
}

/** @param set what is between the brackets */
function inSet(set: string): (character: string) => boolean {
  const isNegated = /^[!^]/.test(set);
  const members = isNegated ? set.slice(1) : set;
  return (character) => {
    let found = false;
    for (let at = 0; at < members.length && !found; at++) {
      const low = members.charAt(at);
      const high = members.charAt(at + 1) === '-' ? members.charAt(at + 2) : '';
      if (high === '') found = character === low;
      else {
        found = character >= low && character <= high;
        at += 2;
      }
    }
    return found !== isNegated;
  };
}
