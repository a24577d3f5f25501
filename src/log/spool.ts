/**
 * What is on its way into an output that may take nothing for a while: a pipe that nobody reads, a full disk, a journal that is busy.
 * The daemon never waits for it. Messages are kept up to a limit. Those beyond it are left out and counted: one line says how many, where
 * they would have been.
 */

/** Bytes kept for an output that takes none. */
const MAX_KEPT = 1024 * 1024;
/** The interval between two attempts, in milliseconds. */
const RETRY_MS = 100;

/** Writes without waiting. */
export interface Sink<T> {
  /** Returns what is left to be written later, if anything; `lost`: it will never be. */
  put(item: T): T | 'lost' | null;
  /** In bytes. */
  sizeOf(item: T): number;
  /** The message that says how many were left out. */
  note(lost: number): T;
}

export class Spool<T> {
  private readonly sink: Sink<T>;
  private readonly kept: T[] = [];
  private keptBytes = 0;
  private lost = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(sink: Sink<T>) {
    this.sink = sink;
  }

  add(item: T): void {
    this.flush();
    // Nothing overtakes the line that says what was left out.
    if (this.lost > 0) this.lost++;
    else if (this.kept.length === 0) this.put(item);
    else if (this.keptBytes + this.sink.sizeOf(item) > MAX_KEPT) this.lost++;
    else this.keep(item);
  }

  /** Writes what is kept, as far as possible. */
  flush(): void {
    for (let item = this.kept.shift(); item !== undefined; item = this.kept.shift()) {
      this.keptBytes -= this.sink.sizeOf(item);
      if (!this.put(item)) return;
    }
    const { lost } = this;
    if (lost === 0) return;
    this.lost = 0;
    const note = this.sink.note(lost);
    const rest = this.sink.put(note);
    // A part of the note must be followed by its rest. If nothing was written of it, more may be left out until then.
    if (rest === 'lost' || (rest !== null && this.sink.sizeOf(rest) === this.sink.sizeOf(note))) {
      this.lost = lost;
      if (rest !== 'lost') this.retryLater();
    } else if (rest !== null) this.keep(rest);
  }

  /** No more messages come. */
  end(): void {
    this.flush();
    clearTimeout(this.timer);
  }

  /** Whether nothing is left of it. */
  private put(item: T): boolean {
    const rest = this.sink.put(item);
    if (rest === null) return true;
    if (rest === 'lost') {
      this.lost++;
      return true;
    }
    this.kept.unshift(rest);
    this.keptBytes += this.sink.sizeOf(rest);
    this.retryLater();
    return false;
  }

  private keep(item: T): void {
    this.kept.push(item);
    this.keptBytes += this.sink.sizeOf(item);
    this.retryLater();
  }

  private retryLater(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.flush();
    }, RETRY_MS).unref();
  }
}
