/**
 * Lists in pages. A page ends at a size or a time limit, so that a client that lists 100 000 locks delays the others by a few
 * milliseconds at a time. Between two pages the list is an iterator over the live tables, which may change: an entry that stays appears
 * exactly once (lockspace/table.ts).
 */
import { now as monotonic } from '../posix/clock.ts';
import type { Connection } from '../rpc/connection.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { PAGE_MAX } from '../../xdr/programs/inquire.ts';
import { RpcError } from '../libvirt/errors.ts';

/** Limits of a page: milliseconds to make it, and approximate bytes. */
const PAGE_MS = 2;
const PAGE_BYTES = 256 * 1024;
/** Steps between two reads of the clock: one costs about as much as a step. */
const CLOCK_EVERY = 16;
/** Unfinished lists of a connection; one more replaces the oldest. */
const MAX_CURSORS = 4;
/** A list that is not continued for so long is dropped: its iterator keeps the tables alive that it began with. */
const CURSOR_LIFE_MS = 10_000;

/** One step of a list: an entry and its approximate bytes, or null for a step without one. */
export type Step<T> = { readonly entry: T; readonly size: number } | null;

interface Cursor {
  readonly id: number;
  readonly kind: string;
  readonly steps: Iterator<Step<unknown>>;
  readonly touched: number;
}

export class Pages {
  private readonly cursors = new Map<Connection, Cursor[]>();
  private lastId = 0;
  private sweeper: NodeJS.Timeout | undefined;
  private readonly now: () => number;

  constructor(now: () => number = monotonic) {
    this.now = now;
  }

  /**
   * The next page of a list. `begin` makes the list when `cursor` is 0.
   *
   * @throws RpcError when the cursor is not one that this connection got for this kind of list
   */
  page<T>(
    connection: Connection,
    kind: string,
    cursor: bigint,
    limit: number,
    begin: () => Iterator<Step<T>>,
  ): { entries: T[]; next: bigint } {
    const steps = cursor === 0n ? begin() : (this.take(connection, kind, cursor).steps as Iterator<Step<T>>);
    const most = limit === 0 ? PAGE_MAX : Math.min(limit, PAGE_MAX);
    const until = this.now() + PAGE_MS;
    const entries: T[] = [];
    let bytes = 0;
    for (let count = 1; ; count++) {
      const step = steps.next();
      if (step.done === true) return { entries, next: 0n };
      if (step.value !== null) {
        entries.push(step.value.entry);
        bytes += step.value.size;
      }
      const full = entries.length >= most || bytes >= PAGE_BYTES;
      if (full || (count % CLOCK_EVERY === 0 && this.now() >= until)) break;
    }
    return { entries, next: this.keep(connection, kind, steps) };
  }

  /** Drops the lists of a connection that has ended. */
  forget(connection: Connection): void {
    this.cursors.delete(connection);
  }

  /** The number of unfinished lists. */
  get count(): number {
    let sum = 0;
    for (const { length } of this.cursors.values()) sum += length;
    return sum;
  }

  private take(connection: Connection, kind: string, cursor: bigint): Cursor {
    const own = this.cursors.get(connection) ?? [];
    const index = own.findIndex((candidate) => BigInt(candidate.id) === cursor && candidate.kind === kind);
    const [found] = index < 0 ? [] : own.splice(index, 1);
    if (found !== undefined) return found;
    throw new RpcError(
      ErrorCode.INVALID_ARG,
      ErrorDomain.RPC,
      `cursor ${cursor} is not known (any more): begin the list again`,
    );
  }

  private keep(connection: Connection, kind: string, steps: Iterator<Step<unknown>>): bigint {
    const cursor: Cursor = { id: ++this.lastId, kind, steps, touched: this.now() };
    const own = this.cursors.get(connection);
    if (own === undefined) this.cursors.set(connection, [cursor]);
    else {
      own.push(cursor);
      if (own.length > MAX_CURSORS) own.shift();
    }
    this.sweeper ??= setInterval(() => {
      this.sweep();
    }, CURSOR_LIFE_MS).unref();
    return BigInt(cursor.id);
  }

  /** Drops lists that were not continued in time. */
  sweep(): void {
    const before = this.now() - CURSOR_LIFE_MS;
    for (const [connection, own] of this.cursors) {
      const left = own.filter(({ touched }) => touched > before);
      if (left.length > 0) this.cursors.set(connection, left);
      else this.cursors.delete(connection);
    }
    if (this.cursors.size > 0) return;
    clearInterval(this.sweeper);
    this.sweeper = undefined;
  }
}
