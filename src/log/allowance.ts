/**
 * How much of one connection's mistakes the log takes. A client can make thousands in a second, each with a name of 64 KiB. An honest
 * one has every message logged, as with C.
 */
import { now as monotonic } from '../posix/clock.ts';

/** What may come at once, and what is allowed again in a second. */
const LINES = { burst: 200, each: 10 } as const;
const BYTES = { burst: 256 * 1024, each: 16 * 1024 } as const;
/** Without a message left out for so long, in milliseconds, the flood is over. It is reported at the latest after the second time. */
const QUIET_MS = 1000;
const REPORT_MS = 60_000;

export class Allowance {
  /** Reports how many messages were left out. */
  private readonly report: (leftOut: number) => void;
  private readonly now: () => number;
  private lines: number = LINES.burst;
  private bytes: number = BYTES.burst;
  private countedAt: number;
  private leftOut = 0;
  private firstLeftOut = 0;
  private lastLeftOut = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(report: (leftOut: number) => void, now: () => number = monotonic) {
    this.report = report;
    this.now = now;
    this.countedAt = now();
  }

  /** Whether a message of so many bytes may be logged. It counts. */
  admits(bytes: number): boolean {
    const now = this.now();
    const seconds = (now - this.countedAt) / 1000;
    this.countedAt = now;
    this.lines = Math.min(LINES.burst, this.lines + seconds * LINES.each);
    this.bytes = Math.min(BYTES.burst, this.bytes + seconds * BYTES.each);
    if (this.lines >= 1 && this.bytes >= bytes) {
      this.lines--;
      this.bytes -= bytes;
      return true;
    }
    if (this.leftOut++ === 0) this.firstLeftOut = now;
    this.lastLeftOut = now;
    this.timer ??= setInterval(() => {
      this.check();
    }, QUIET_MS).unref();
    return false;
  }

  /** No more messages come. */
  end(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    const { leftOut } = this;
    this.leftOut = 0;
    if (leftOut > 0) this.report(leftOut);
  }

  private check(): void {
    const now = this.now();
    if (now - this.lastLeftOut >= QUIET_MS || now - this.firstLeftOut >= REPORT_MS) this.end();
  }
}
