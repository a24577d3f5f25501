/**
 * Names of descriptors in the service manager's store. They have six characters at most, because the manager passes all of them in one
 * environment variable, whose length is limited. The letter is the descriptor's kind, for descriptors that the record does not mention.
 * Up to five digits make the name unique. As a number, a name takes one word of the record.
 */

/** The kind of a stored descriptor. The values are part of the names in a record. */
export const StoredKind = {
  /** See record.ts. */
  RECORD: 1,
  /** A listening socket. */
  LISTENER: 2,
  /** A connection to the lock server. */
  LOCK_CLIENT: 3,
  ADMIN_CLIENT: 4,
  /** In the queue, not with the manager itself: see in-flight.ts. */
  FILE: 5,
  PIDFD: 6,
  /** The queue of files. */
  QUEUE: 7,
  /** The socket of a storage helper. */
  STORAGE: 8,
} as const;
export type StoredKind = (typeof StoredKind)[keyof typeof StoredKind];

/** A name as a number; 0: no name. */
export type StoredName = number;

const LETTERS = '-RLCAFPQS';
const KIND_SHIFT = 26;
const SERIAL_MASK = (1 << KIND_SHIFT) - 1;
const RADIX = 36;
/** Serial numbers are lower: they have five digits at most. */
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

/** Names with spaces between; what is no name is left out. */
export function parseNames(text = ''): StoredName[] {
  return text.split(' ').flatMap((word) => parseName(word) ?? []);
}

/** Undefined for a name that {@link formatName} does not produce. */
export function parseName(text: string): StoredName | undefined {
  const kind = LETTERS.indexOf(text.charAt(0));
  if (kind < 1 || !/^[A-Z](?:0|[1-9a-z][0-9a-z]{0,4})$/.test(text)) return undefined;
  return storedName(kind as StoredKind, parseInt(text.slice(1), RADIX));
}
