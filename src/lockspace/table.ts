/**
 * Hash tables for entries that come and go all the time, beside very many that stay.
 *
 * V8's Map does not suit that. A deleted entry stays in its chain until the whole table is rehashed, which is rare for a large one:
 * beside 100 000 held locks, a lock that is acquired and released again and again is searched among tens of thousands of its own former
 * entries. And each new table is referenced by the one before it: once that one is in the old generation, all later ones survive every
 * scavenge with their entries. Here the place of a deleted entry is used again.
 */

/** Entries of the smallest table. */
const MIN_CAPACITY = 8;
/** A table shrinks when so many times more entries would fit. */
const SPARSE = 8;
/** Good hashes give no chain of this length, however large the table. */
const CROWD = 16;
const NONE = -1;

/** The arrays of a table. A resize makes new ones and leaves these as they are, so that iterators can go on. */
class Places<K, V> {
  readonly capacity: number;
  readonly keys: (K | undefined)[];
  readonly values: (V | undefined)[];
  readonly hashes: Int32Array;
  /** The first place of each chain. */
  readonly chains: Int32Array;
  /** The next place of the same chain, or of the free list. */
  readonly next: Int32Array;
  /** Places from here on were never used. */
  used = 0;
  free = NONE;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.keys = new Array<K | undefined>(capacity).fill(undefined);
    this.values = new Array<V | undefined>(capacity).fill(undefined);
    this.hashes = new Int32Array(capacity);
    this.chains = new Int32Array(capacity).fill(NONE);
    this.next = new Int32Array(capacity);
  }

  /** Adds a new key; there must be room. Returns the length of its chain before. */
  add(hash: number, key: K, value: V): number {
    const { hashes, chains, next } = this;
    let place = this.free;
    if (place === NONE) place = this.used++;
    else this.free = next[place] ?? NONE;
    const chain = hash & (this.capacity - 1);
    const first = chains[chain] ?? NONE;
    this.keys[place] = key;
    this.values[place] = value;
    hashes[place] = hash;
    next[place] = first;
    chains[chain] = place;
    let length = 0;
    for (let other = first; other !== NONE; other = next[other] ?? NONE) length++;
    return length;
  }
}

/** Values by keys, which are equal by `===`. */
export abstract class Table<K, V extends object> {
  private places = new Places<K, V>(MIN_CAPACITY);
  private count = 0;

  /** Any 32 bits, of which the low ones differ most. */
  protected abstract hash(key: K): number;

  /** A chain is too long. Returns whether hashes are made of more of each key from now on. */
  protected hashMore(): boolean {
    return false;
  }

  get size(): number {
    return this.count;
  }

  has(key: K): boolean {
    return this.get(key) !== undefined;
  }

  get(key: K): V | undefined {
    const { places } = this;
    const place = this.find(places, key, this.hash(key));
    return place === NONE ? undefined : places.values[place];
  }

  set(key: K, value: V): void {
    const hash = this.hash(key);
    const place = this.find(this.places, key, hash);
    if (place !== NONE) {
      this.places.values[place] = value;
      return;
    }
    if (this.count === this.places.capacity) this.resize(this.count * 2);
    const length = this.places.add(hash, key, value);
    this.count++;
    if (length >= CROWD && this.hashMore()) this.resize(this.places.capacity, true);
  }

  delete(key: K): boolean {
    const { places } = this;
    const { hashes, chains, next } = places;
    const hash = this.hash(key);
    const place = this.find(places, key, hash);
    if (place === NONE) return false;
    const chain = hash & (places.capacity - 1);
    if (chains[chain] === place) chains[chain] = next[place] ?? NONE;
    else {
      let before = chains[chain] ?? NONE;
      while (next[before] !== place) before = next[before] ?? NONE;
      next[before] = next[place] ?? NONE;
    }
    places.keys[place] = undefined;
    places.values[place] = undefined;
    hashes[place] = 0;
    next[place] = places.free;
    places.free = place;
    this.count--;
    if (places.capacity > MIN_CAPACITY && this.count * SPARSE < places.capacity) this.resize(places.capacity / 4);
    return true;
  }

  /** In unspecified order. Entries deleted during iteration are skipped; entries added may or may not appear. */
  *values(): IterableIterator<V> {
    const { places } = this;
    for (let place = 0; place < places.used; place++) {
      const value = places.values[place];
      if (value === undefined) continue;
      const key = places.keys[place];
      if (places === this.places || (key !== undefined && this.get(key) === value)) yield value;
    }
  }

  private find(places: Places<K, V>, key: K, hash: number): number {
    const { keys, hashes, next } = places;
    let place = places.chains[hash & (places.capacity - 1)] ?? NONE;
    while (place !== NONE && (hashes[place] !== hash || keys[place] !== key)) place = next[place] ?? NONE;
    return place;
  }

  private resize(capacity: number, rehashes = false): void {
    const { places } = this;
    const other = new Places<K, V>(Math.max(MIN_CAPACITY, capacity));
    for (let place = 0; place < places.used; place++) {
      const [key, value] = [places.keys[place], places.values[place]];
      if (key === undefined || value === undefined) continue;
      other.add(rehashes ? this.hash(key) : (places.hashes[place] ?? 0), key, value);
    }
    this.places = other;
  }
}

/** By whole numbers, however large. */
export class NumberTable<V extends object> extends Table<number | bigint, V> {
  protected hash(key: number | bigint): number {
    const bits = typeof key === 'number' ? key ^ (key / 0x1_0000_0000) : Number(BigInt.asIntN(32, key ^ (key >> 32n)));
    return mix(Math.imul(bits, PRIME));
  }
}

/** By strings: names chosen by the daemon's own user, so nobody else can choose colliding ones. */
export class TextTable<V extends object> extends Table<string, V> {
  // A key that was not found is most often set next: this saves its second hash.
  private lastKey = '';
  private lastHash = 0;
  /** How many characters of a name are hashed. */
  private most = SAMPLE;

  protected hash(key: string): number {
    if (key === this.lastKey) return this.lastHash;
    this.lastKey = key;
    return (this.lastHash = hashText(key, this.most));
  }

  protected override hashMore(): boolean {
    if (this.most === MAX_SAMPLE) return false;
    this.most = MAX_SAMPLE;
    this.lastKey = '';
    this.lastHash = 0;
    return true;
  }
}

/** Enough for most names: those of disks differ at the end, or everywhere. */
const SAMPLE = 16;
const MAX_SAMPLE = 0x7fffffff;

/** Of a text longer than `most`: its last `most` / 2 characters, and about as many of those before, evenly spaced. */
function hashText(text: string, most: number): number {
  const { length } = text;
  let hash = length;
  let at = 0;
  if (length > most) {
    const half = most >> 1;
    const tail = length - half;
    const step = Math.trunc(tail / half);
    for (; at < tail; at += step) hash = Math.imul(hash ^ text.charCodeAt(at), PRIME);
    at = tail;
  }
  for (; at < length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), PRIME);
  return mix(hash);
}

/** As in FNV-1a. */
const PRIME = 0x01000193;

/** The low bits of a product do not depend on the high bits of its factors. */
function mix(hash: number): number {
  return hash ^ (hash >>> 15);
}
