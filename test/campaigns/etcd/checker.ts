/** Finds two writers at once, in the order in which their records stand in a shared file. */
import { closeSync, openSync, readSync } from 'node:fs';

export const RECORD_SIZE = 32;
/** Records that are read at a time. */
const AT_ONCE = 32 * 1024;

export interface WriteRecord {
  /** CLOCK_MONOTONIC in ms. */
  readonly at: number;
  readonly hold: number;
  readonly sequence: number;
  readonly shared: boolean;
}

export interface Overlap {
  /** It wrote after the other one, which excludes it, had begun to. */
  readonly former: number;
  readonly latter: number;
  /** How many records it wrote too many, and from when to when after the other one had begun, in ms. */
  records: number;
  readonly from: number;
  to: number;
}

interface Superseded {
  readonly by: number;
  /** When that one's first record was written, in ms. */
  readonly at: number;
  overlap: Overlap | null;
}

/**
 * Each hold is one owner's, from a grant to its release or to the owner's death. A hold is superseded when one that excludes it writes: then
 * it has ended, and must never write again.
 */
export class OverlapFinder {
  readonly overlaps: Overlap[] = [];
  /** By hold: shared. */
  private readonly active = new Map<number, boolean>();
  private readonly superseded = new Map<number, Superseded>();
  /** Holds that have written, and records. */
  holds = 0;
  records = 0;

  add({ at, hold, shared }: WriteRecord): void {
    this.records++;
    const ended = this.superseded.get(hold);
    if (ended !== undefined) {
      if (ended.overlap === null) {
        ended.overlap = { former: hold, latter: ended.by, records: 0, from: ended.at, to: at };
        this.overlaps.push(ended.overlap);
      }
      ended.overlap.records++;
      ended.overlap.to = at;
      return;
    }
    if (this.active.has(hold)) return;
    this.holds++;
    for (const [other, otherIsShared] of this.active) {
      if (shared && otherIsShared) continue;
      this.active.delete(other);
      this.superseded.set(other, { by: hold, at, overlap: null });
    }
    this.active.set(hold, shared);
  }
}

/** Reads what has been appended to a file of records since the last time. */
export class RecordFile {
  readonly finder = new OverlapFinder();
  private readonly path: string;
  private read = 0;

  constructor(path: string) {
    this.path = path;
  }

  check(): void {
    let fd: number;
    try {
      fd = openSync(this.path, 'r');
    } catch {
      // Nobody has written yet.
      return;
    }
    const bytes = Buffer.alloc(AT_ONCE * RECORD_SIZE);
    try {
      for (;;) {
        const size = readSync(fd, bytes, 0, bytes.length, this.read);
        const whole = size - (size % RECORD_SIZE);
        for (let at = 0; at < whole; at += RECORD_SIZE) this.finder.add(recordAt(bytes, at));
        this.read += whole;
        if (whole === 0) return;
      }
    } finally {
      closeSync(fd);
    }
  }
}

function recordAt(bytes: Buffer, at: number): WriteRecord {
  return {
    at: Number(bytes.readBigUInt64LE(at)) / 1e6,
    hold: Number(bytes.readBigUInt64LE(at + 8)),
    sequence: Number(bytes.readBigUInt64LE(at + 16)),
    shared: bytes.readBigUInt64LE(at + 24) === 1n,
  };
}
