/**
 * The record of who owns what, in memory that outlives the daemon: see posix.createMemory. Whatever the instruction at which the
 * process dies, it says what was true before or after the last change:
 *
 *     header    what it is; where its entries end, as one word and its complement; which bank counts; the latest round
 *     banks     two, each with a word for each descriptor that tells what of its connection is under way (CallMark), and a word
 *               that tells by which name the service manager keeps it (names.ts)
 *     halves    two, one of which has the entries: a snapshot, and behind it every change since. When it is full, another
 *               snapshot goes into the other half.
 *
 * An entry counts once the word in the header says so. Nothing is believed that is not whole: every entry has a CRC-32. What is in
 * the entries is not known here.
 */
import { posix } from '../posix/posix.ts';

/** Memory is not a record, or not a whole one; `message` says why. */
export class RecordError extends Error {}

/** Words of the header. */
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
/** `VLR1` as bytes. */
const MAGIC = 0x31524c56;
const FORMAT = 1;
/** Characters of a boot's id. */
const BOOT_LENGTH = 36;
/** Of a half, a place takes all bits of a word but this, which tells which half it is. */
const SECOND_HALF = 0x8000_0000;
/** Descriptors with higher numbers cannot be told of. */
export const SLOTS = 32_768;
/** Bytes of a half, at least and at most. */
export const MIN_HALF = 512 * 1024;
export const MAX_HALF = 256 * 1024 * 1024;
/** Bytes of an entry beside its text. */
const ENTRY_HEAD = 8;

export interface RecordOptions {
  /** Bytes of a half. */
  readonly half?: number;
  /** See {@link SLOTS}. */
  readonly slots?: number;
  readonly boot: string;
  /** Of several records the one counts that has the highest. */
  readonly generation?: number;
}

interface Bank {
  /** By descriptor: see CallMark of posix.ts. */
  readonly marks: Uint32Array;
  /** By descriptor: a StoredName; 0 where there is none. */
  readonly names: Uint32Array;
}

export class StateRecord {
  /** The descriptor that the memory stands for. */
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

  /** A record without entries. Returns -errno when there is no memory for it. */
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
   * The record that a descriptor stands for. Its entries are checked when they are read.
   *
   * @param boot the id of this boot
   * @param memory what mapMemory gives of the descriptor
   * @throws RecordError
   */
  static open(fd: number, boot: string, memory = posix.mapMemory(fd)): StateRecord {
    if (typeof memory === 'number') throw new RecordError('it is no memory of the kind');
    if (memory.byteLength < HEADER_SIZE) throw new RecordError('it is too short');
    const header = new Uint32Array(memory, 0, Header.WORDS);
    const {
      [Header.MAGIC]: magic,
      [Header.FORMAT]: format,
      [Header.SLOTS]: slots = 0,
      [Header.HALF]: half = 0,
    } = header;
    if (magic !== MAGIC) throw new RecordError(magic === 0 ? 'it was given up' : 'it does not begin as one');
    if (header[Header.CRC] !== headerCrc(memory)) throw new RecordError('its header is damaged');
    if (format !== FORMAT) throw new RecordError(`its format is ${format ?? 0}, and ${FORMAT} is known`);
    if (memory.byteLength !== sizeOf(slots, half)) throw new RecordError('its size is not what it says');
    const written = Buffer.from(memory, Header.BOOT * WORD, BOOT_LENGTH)
      .toString('latin1')
      .replace(/\0+$/, '');
    if (written !== boot) throw new RecordError('it is of another boot');
    return new StateRecord(fd, memory, slots, half);
  }

  /** See {@link RecordOptions}. */
  get generation(): number {
    return this.header[Header.GENERATION] ?? 0;
  }

  /** Bytes of memory. */
  get size(): number {
    return sizeOf(this.slots, this.capacity);
  }

  /** What counts at present of connections and descriptors. */
  get bank(): Bank {
    return this.banks[(this.header[Header.BANK] ?? 0) === 0 ? 0 : 1];
  }

  /** Has another bank count, filled by `fill`, in one step. */
  replaceBank(fill: (bank: Bank) => void): void {
    const next = (this.header[Header.BANK] ?? 0) === 0 ? 1 : 0;
    const bank = this.banks[next];
    bank.marks.fill(0);
    bank.names.fill(0);
    fill(bank);
    Atomics.store(this.header, Header.BANK, next);
  }

  /** The latest round of the poller that is on record: the next process counts on from there, so that none stands for two. */
  get round(): number {
    return this.header[Header.ROUND] ?? 0;
  }

  noteRound(round: number): void {
    if (round > this.round) this.header[Header.ROUND] = round;
  }

  /** Takes over what counts of connections and descriptors in another record, as long as nobody knows of this one. */
  copyBank({ bank: { marks, names }, round }: StateRecord): void {
    this.noteRound(round);
    this.bank.marks.set(marks);
    this.bank.names.set(names);
  }

  /** Bytes that the entries take of a half. */
  get length(): number {
    return this.end & ~SECOND_HALF;
  }

  /** Adds an entry: latin1, not empty. False when there is no room, and nothing has changed. */
  append(text: string): boolean {
    const { end } = this;
    const next = posix.writeEntry(this.halfOf(end), end & ~SECOND_HALF, text);
    if (next < 0) return false;
    this.commit(next | (end & SECOND_HALF));
    return true;
  }

  /** Has other entries instead. False when there is no room for them, and nothing has changed. */
  rewrite(texts: Iterable<string>): boolean {
    const before = this.halfOf(this.end);
    const half = ~this.end & SECOND_HALF;
    let at = 0;
    for (const text of texts) {
      at = posix.writeEntry(this.halfOf(half), at, text);
      if (at < 0) return false;
    }
    this.commit(at | half);
    // Nobody takes what was there for what is there, if the bit should be wrong that tells the halves apart.
    before.fill(0, 0, ENTRY_HEAD);
    return true;
  }

  /** The entries. @throws RecordError when one of them is not whole */
  *entries(): Generator<string> {
    const end = this.committedEnd();
    const bytes = this.halfOf(end);
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    for (const [from, to] of entriesOf(bytes, end & ~SECOND_HALF)) yield buffer.toString('latin1', from, to);
  }

  /** From now on it is none any more, whoever finds it. */
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
   * Where the entries end. The process may have died between the two words that tell it: then what was there before and what is there
   * since are both whole, and both are true.
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

/** The places of the texts of entries. @throws RecordError */
function* entriesOf(half: Uint8Array, end: number): Generator<readonly [number, number]> {
  for (let at = 0; at < end;) {
    const last = posix.readEntry(half, at, end);
    if (last < 0) throw new RecordError(`its entry at byte ${at} of ${end} is damaged`);
    yield [at + ENTRY_HEAD, last];
    at = aligned(last);
    if (at > end) throw new RecordError('its last entry is cut off');
  }
}

/** Of two banks. */
const TABLES = 4;

function sizeOf(slots: number, half: number): number {
  return HEADER_SIZE + TABLES * slots * WORD + 2 * half;
}

function aligned(at: number): number {
  return Math.ceil(at / WORD) * WORD;
}

/** Of what never changes. */
function headerCrc(memory: ArrayBuffer): number {
  return posix.crc32(new Uint8Array(memory), Header.FORMAT * WORD, Header.CRC * WORD);
}
