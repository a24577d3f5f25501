/** Writes lines without waiting for their reader, because a trace that waits would delay the daemon's clients. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { isPipe } from '../../posix/pipe.ts';

const STDOUT = 1;

/** At most this many bytes wait to be written. Further lines are dropped and counted. */
const MAX_WAITING = 64 * 1024 * 1024;

export class Output {
  private readonly stream: Writable;
  private dropped = 0;
  private isDone = false;

  /** @param onGone called when the reader of standard output has closed it */
  constructor(onGone: () => void) {
    this.stream = openOutput();
    this.stream.on('error', () => {
      this.isDone = true;
      onGone();
    });
  }

  line(text: string): void {
    if (this.isDone) return;
    if (this.stream.writableLength > MAX_WAITING) {
      this.dropped++;
      return;
    }
    if (this.dropped > 0) {
      process.stderr.write(`virtlockd-trace: dropped ${this.dropped} lines: the output is read too slowly\n`);
      this.dropped = 0;
    }
    this.stream.write(`${text}\n`);
  }

  /** Waits until there is room, for a source that can wait. */
  async room(): Promise<void> {
    if (!this.isDone && this.stream.writableNeedDrain) {
      await Promise.race([once(this.stream, 'drain'), once(this.stream, 'close')]).catch(() => undefined);
    }
  }

  /** Waits until all lines are written. */
  async end(): Promise<void> {
    if (this.isDone) return;
    this.isDone = true;
    await new Promise<void>((resolve) => {
      this.stream.write('', () => resolve());
    });
  }
}

/**
 * A stream that never blocks. process.stdout blocks on a file or a terminal; a file stream gives up after a few attempts on a
 * full pipe or socket.
 */
function openOutput(): Writable {
  return isPipe(STDOUT) ? process.stdout : createWriteStream('', { fd: STDOUT, autoClose: false });
}
