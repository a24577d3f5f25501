/**
 * Names under which the service manager keeps descriptors. They have six characters at most: it hands all of them over in one string,
 * which must not become longer than one may be. A letter says what is behind it, so that something is known of a descriptor that
 * the record does not tell of; five digits tell it from all others. As a number, a name takes one word of the record.
 */

/** What a stored descriptor is. The order is part of the numbers. */
export const StoredKind = {
  /** Of the state: see record.ts. */
  RECORD: 1,
  /** A listening socket. */
  LISTENER: 2,
  /** A connection to the lock server. */
  LOCK_CLIENT: 3,
  ADMIN_CLIENT: 4,
  FILE: 5,
  PIDFD: 6,
} as const;
export type StoredKind = (typeof StoredKind)[keyof typeof StoredKind];

/** A name as a number; 0 is none. */
export type StoredName = number;

const LETTERS = '-RLCAFP';
const KIND_SHIFT = 26;
const SERIAL_MASK = (1 << KIND_SHIFT) - 1;
const RADIX = 36;
/** Serial numbers are below it: they have five digits. */
const SERIALS = RADIX ** 5;

export function storedName(kind: StoredKind, serial: number): StoredName {
  return ((kind << KIND_SHIFT) | (serial % SERIALS)) >>> 0;
}

export function serialOf(name: StoredName): number {
  return name & SERIAL_MASK;
}

export function kindOf(name: StoredName): StoredKind | 0 {
  const kind = name >>> KIND_SHIFT;
  return kind < LETTERS.length ? (kind as StoredKind | 0) : 0;
}

export function formatName(name: StoredName): string {
  return `${LETTERS[name >>> KIND_SHIFT] ?? '-'}${serialOf(name).toString(RADIX)}`;
}

/** Undefined for a name that is none of ours. */
export function parseName(text: string): StoredName | undefined {
  const kind = LETTERS.indexOf(text.charAt(0));
  if (kind < 1 || !/^[A-Z](?:0|[1-9a-z][0-9a-z]{0,4})$/.test(text)) return undefined;
  return storedName(kind as StoredKind, parseInt(text.slice(1), RADIX));
}
