/**
 * The record of the daemon's state, in memory that outlives the process: see posix.createMemory. At whatever instruction the process
 * dies, a reader finds the state before or after the last change:
 *
 *     header    magic and format; the end of the entries, as one word and its complement; the current bank; the latest round
 *     banks     two, each with two words for each descriptor: the call mark of its connection (CallMark), and its name in the
 *               service manager's store (names.ts)
 *     halves    two, one of which has the entries: a snapshot, followed by every change since. When it is full, the next
 *               snapshot goes into the other half.
 *
 * An entry counts once the end in the header includes it. Each entry has a CRC-32, and a reader rejects a record with a damaged one.
 * restart/entries.ts defines the entries' content.
 */
import { posix } from '../posix/posix.ts';

/** The memory is not a record, or the record is damaged. */
export class RecordError extends Error {}

/** Indexes of words in the header. */
const Header = {
  MAGIC: 0,
  FORMAT: 1,
  SLOTS: 2,
  HALF: 3,
  BOOT: 4,
  GENERATION: 13,
  CRC: 14,
  END: 16,
  END_CHECK: 17,
  BANK: 18,
  ROUND: 19,
  WORDS: 64,
} as const;
const WORD = 4;
const HEADER_SIZE = Header.WORDS * WORD;
/** The bytes `VLR1`. */
const MAGIC = 0x31524c56;
/** Of format 1, each file was with the manager itself. */
const FORMAT = 2;
/** Characters of a boot id. */
const BOOT_LENGTH = 36;
/** In the word of the end: the entries are in the second half. The other bits are the offset in that half. */
const SECOND_HALF = 0x8000_0000;
/** Descriptors from this number on have no words in a bank, and are not stored. */
const SLOTS = 32_768;
/** Limits of a half's size, in bytes. */
export const MIN_HALF = 512 * 1024;
export const MAX_HALF = 256 * 1024 * 1024;
/** Bytes of an entry before its text. */
const ENTRY_HEAD = 8;

interface RecordOptions {
  /** Bytes of a half. */
  readonly half?: number;
  /** See {@link SLOTS}. */
  readonly slots?: number;
  readonly boot: string;
  /** Of several records, the one with the highest generation counts. */
  readonly generation?: number;
}

interface Bank {
  /** By descriptor: its CallMark (posix.ts). */
  readonly marks: Uint32Array;
  /** By descriptor: its word in the DescriptorStore, see {@link nameIn} of store.ts. */
  readonly names: Uint32Array;
}

/** Words of a table that are compared at once. */
const CHUNK = 1024;
const NOTHING = Buffer.alloc(CHUNK * WORD);

/** The places of a bank's words that are not 0. Few descriptors are in use, and a loop over all words would take milliseconds. */
export function* usedPlaces(table: Uint32Array): Generator<number> {
  for (let from = 0; from < table.length; from += CHUNK) {
    const words = table.subarray(from, from + CHUNK);
    const bytes = Buffer.from(words.buffer, words.byteOffset, words.byteLength);
    if (bytes.equals(NOTHING.subarray(0, words.byteLength))) continue;
    for (let at = 0; at < words.length; at++) if (words[at] !== 0) yield from + at;
  }
}

export class StateRecord {
  /** The memory's descriptor. */
  readonly fd: number;
  readonly slots: number;
  /** Bytes of a half. */
  readonly capacity: number;
  private readonly header: Uint32Array;
  private readonly banks: readonly [Bank, Bank];
  private readonly halves: readonly [Uint8Array, Uint8Array];

  private constructor(fd: number, memory: ArrayBuffer, slots: number, capacity: number) {
    this.fd = fd;
    this.slots = slots;
    this.capacity = capacity;
    this.header = new Uint32Array(memory, 0, Header.WORDS);
    const table = (index: number): Uint32Array => new Uint32Array(memory, HEADER_SIZE + index * slots * WORD, slots);
    const half = (index: number): Uint8Array =>
      new Uint8Array(memory, HEADER_SIZE + TABLES * slots * WORD + index * capacity, capacity);
    this.banks = [
      { marks: table(0), names: table(1) },
      { marks: table(2), names: table(3) },
    ];
    this.halves = [half(0), half(1)];
  }

  /** Makes a record without entries. Returns -errno when the kernel has no memory for it. */
  static create({ half = MIN_HALF, slots = SLOTS, boot, generation = 1 }: RecordOptions): StateRecord | number {
    const fd = posix.createMemory(sizeOf(slots, half));
    if (fd < 0) return fd;
    const memory = posix.mapMemory(fd);
    if (typeof memory === 'number') {
      posix.close(fd);
      return memory;
    }
    const header = new Uint32Array(memory, 0, Header.WORDS);
    header[Header.FORMAT] = FORMAT;
    header[Header.SLOTS] = slots;
    header[Header.HALF] = half;
    header[Header.GENERATION] = generation;
    Buffer.from(memory, Header.BOOT * WORD, BOOT_LENGTH).write(boot, 'latin1');
    header[Header.END_CHECK] = ~0;
    header[Header.CRC] = headerCrc(memory);
    Atomics.store(header, Header.MAGIC, MAGIC);
    return new StateRecord(fd, memory, slots, half);
  }

  /**
   * Opens the record behind a descriptor. Checks its header; {@link entries} checks the entries.
   *
   * @param boot the id of this boot
   * @param memory the result of mapMemory for the descriptor
   * @throws RecordError
   */
  static open(fd: number, boot: string, memory = posix.mapMemory(fd)): StateRecord {
    if (typeof memory === 'number') throw new RecordError('it is not sealed memory');
    if (memory.byteLength < HEADER_SIZE) throw new RecordError('it is too short');
    const header = new Uint32Array(memory, 0, Header.WORDS);
    const {
      [Header.MAGIC]: magic,
      [Header.FORMAT]: format,
      [Header.SLOTS]: slots = 0,
      [Header.HALF]: half = 0,
    } = header;
    if (magic !== MAGIC) throw new RecordError(magic === 0 ? 'it was invalidated' : 'it has no magic number');
    if (header[Header.CRC] !== headerCrc(memory)) throw new RecordError('its header is damaged');
    if (format !== FORMAT) throw new RecordError(`its format is ${format ?? 0}, not ${FORMAT}`);
    if (memory.byteLength !== sizeOf(slots, half)) throw new RecordError('its size differs from its header');
    const written = Buffer.from(memory, Header.BOOT * WORD, BOOT_LENGTH)
      .toString('latin1')
      .replace(/\0+$/, '');
    // An id that could not be read proves nothing, and no memory outlives a boot.
    if (written !== '' && boot !== '' && written !== boot) throw new RecordError('it is from another boot');
    return new StateRecord(fd, memory, slots, half);
  }

  /** See {@link RecordOptions}. */
  get generation(): number {
    return this.header[Header.GENERATION] ?? 0;
  }

  /** Bytes of the whole record. */
  get size(): number {
    return sizeOf(this.slots, this.capacity);
  }

  /** The current bank. */
  get bank(): Bank {
    return this.banks[(this.header[Header.BANK] ?? 0) === 0 ? 0 : 1];
  }

  /** Has `fill` write the other bank, from zeros, and makes that one current in one step. */
  replaceBank(fill: (bank: Bank) => void): void {
    const next = (this.header[Header.BANK] ?? 0) === 0 ? 1 : 0;
    const bank = this.banks[next];
    bank.marks.fill(0);
    bank.names.fill(0);
    fill(bank);
    Atomics.store(this.header, Header.BANK, next);
  }

  /** The latest round of the poller on record: the next process counts on from it, so that no number stands for two rounds. */
  get round(): number {
    return this.header[Header.ROUND] ?? 0;
  }

  noteRound(round: number): void {
    if (round > this.round) this.header[Header.ROUND] = round;
  }

  /** Copies the current bank of another record. Not atomic: call it before this record has entries. */
  copyBank({ bank: { marks, names }, round }: StateRecord): void {
    this.noteRound(round);
    this.bank.marks.set(marks);
    this.bank.names.set(names);
  }

  /** Bytes of the entries. */
  get length(): number {
    return this.end & ~SECOND_HALF;
  }

  /** Appends an entry: latin1, not empty. False when there is no room: then nothing has changed. */
  append(text: string): boolean {
    const { end } = this;
    const next = posix.writeEntry(this.halfOf(end), end & ~SECOND_HALF, text);
    if (next < 0) return false;
    this.commit(next | (end & SECOND_HALF));
    return true;
  }

  /** Replaces all entries in one step. False when there is no room for them: then nothing has changed. */
  rewrite(texts: Iterable<string>): boolean {
    const before = this.halfOf(this.end);
    const half = ~this.end & SECOND_HALF;
    let at = 0;
    for (const text of texts) {
      at = posix.writeEntry(this.halfOf(half), at, text);
      if (at < 0) return false;
    }
    this.commit(at | half);
    // So that a reader rejects the old half if SECOND_HALF in the header is damaged.
    before.fill(0, 0, ENTRY_HEAD);
    return true;
  }

  /** The texts of the entries. @throws RecordError at a damaged one */
  *entries(): Generator<string> {
    const end = this.committedEnd();
    const bytes = this.halfOf(end);
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    for (const [from, to] of entriesOf(bytes, end & ~SECOND_HALF)) yield buffer.toString('latin1', from, to);
  }

  /** No process opens it from now on. */
  invalidate(): void {
    Atomics.store(this.header, Header.MAGIC, 0);
  }

  private get end(): number {
    return this.header[Header.END] ?? 0;
  }

  private commit(end: number): void {
    Atomics.store(this.header, Header.END, end);
    Atomics.store(this.header, Header.END_CHECK, ~end);
  }

  private halfOf(end: number): Uint8Array {
    return this.halves[(end & SECOND_HALF) === 0 ? 0 : 1];
  }

  /**
   * Where the entries end. The process may have died between the writes of the two words. Then the old end and the new one both delimit
   * whole entries, and either state is correct.
   *
   * @throws RecordError
   */
  private committedEnd(): number {
    const { end } = this;
    const before = ~(this.header[Header.END_CHECK] ?? 0) >>> 0;
    if (end === before) return end;
    if (((end ^ before) & SECOND_HALF) !== 0) return this.isWhole(end) ? end : before;
    const last = posix.readEntry(this.halfOf(before), before & ~SECOND_HALF, this.capacity);
    if (last >= 0 && ((before & SECOND_HALF) | aligned(last)) >>> 0 === end) return end;
    throw new RecordError('its end is damaged');
  }

  private isWhole(end: number): boolean {
    try {
      Array.from(entriesOf(this.halfOf(end), end & ~SECOND_HALF));
      return true;
    } catch {
      return false;
    }
  }
}

/** Start and end of each entry's text. @throws RecordError */
function* entriesOf(half: Uint8Array, end: number): Generator<readonly [number, number]> {
  for (let at = 0; at < end;) {
    const last = posix.readEntry(half, at, end);
    if (last < 0) throw new RecordError(`its entry at byte ${at} of ${end} is damaged`);
    yield [at + ENTRY_HEAD, last];
    at = aligned(last);
    if (at > end) throw new RecordError('its last entry is cut off');
  }
}

/** Marks and names of two banks. */
const TABLES = 4;

function sizeOf(slots: number, half: number): number {
  return HEADER_SIZE + TABLES * slots * WORD + 2 * half;
}

function aligned(at: number): number {
  return Math.ceil(at / WORD) * WORD;
}

/** Covers the words of the header that never change, but the magic. */
function headerCrc(memory: ArrayBuffer): number {
  return posix.crc32(new Uint8Array(memory), Header.FORMAT * WORD, Header.CRC * WORD);
}
