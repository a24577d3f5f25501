/**
 * Which code ran, by V8's precise coverage. Taking it costs milliseconds, so it is taken once for many inputs, and only
 * when something new ran are they looked at one by one.
 */
import { type Profiler, Session } from 'node:inspector';

export class Coverage {
  private readonly session = new Session();
  private readonly seen = new Set<string>();
  private readonly root: string;

  /** @param root the checkout: of it the sources of the daemon count */
  constructor(root: string) {
    this.root = `file://${root}/`;
    this.session.connect();
    this.session.post('Profiler.enable');
    this.session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Blocks of code that have run so far. */
  get blocks(): number {
    return this.seen.size;
  }

  /** How many blocks ran for the first time since the last call. */
  take(): number {
    let result: Profiler.ScriptCoverage[] = [];
    this.session.post('Profiler.takePreciseCoverage', (_, taken) => {
      result = taken.result;
    });
    const before = this.seen.size;
    for (const { url, functions } of result) {
      const file = url.startsWith(this.root) ? url.slice(this.root.length) : '';
      if (!/^(xdr|src)\//.test(file) || file.startsWith('src/fuzz/')) continue;
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          if (count > 0) this.seen.add(`${file}:${startOffset}-${endOffset}`);
        }
      }
    }
    return this.seen.size - before;
  }

  mark(): Set<string> {
    return new Set(this.seen);
  }

  /** Takes back what a {@link rewind} forgot: some code runs once and not when it is asked again. */
  restore(seen: ReadonlySet<string>): void {
    for (const block of seen) this.seen.add(block);
  }

  /** Forgets what ran for the first time since `mark`, to find out who did it. */
  rewind(mark: ReadonlySet<string>): void {
    for (const block of this.seen) if (!mark.has(block)) this.seen.delete(block);
  }

  /**
   * Which of the inputs `from` to `to` reach something new, in order, by halves: most halves reach nothing.
   * @param run runs a range of them
   */
  *bisect(from: number, to: number, run: (from: number, to: number) => void): Generator<number> {
    if (from >= to) return;
    const mark = this.mark();
    run(from, to);
    if (this.take() === 0) return;
    if (to - from === 1) {
      yield from;
      return;
    }
    this.rewind(mark);
    const middle = (from + to) >> 1;
    yield* this.bisect(from, middle, run);
    yield* this.bisect(middle, to, run);
  }
}
