/** Writes lines without ever waiting for who reads them: a trace that waits would hold up the daemon's clients. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { isPipe } from '../../posix/pipe.ts';

const STDOUT = 1;

/** So many bytes wait to be written at most; what comes then is dropped, and counted. */
const MAX_WAITING = 64 * 1024 * 1024;

export class Output {
  private readonly stream: Writable;
  private dropped = 0;
  private isDone = false;

  /** To standard output. @param onGone called when nobody reads any more */
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
      process.stderr.write(`virtlockd-trace: ${this.dropped} lines were not written: they are read too slowly\n`);
      this.dropped = 0;
    }
    this.stream.write(`${text}\n`);
  }

  /** Waits until some is written, where the source can wait. */
  async room(): Promise<void> {
    if (!this.isDone && this.stream.writableNeedDrain) {
      await Promise.race([once(this.stream, 'drain'), once(this.stream, 'close')]).catch(() => undefined);
    }
  }

  /** Writes what is left. */
  async end(): Promise<void> {
    if (this.isDone) return;
    this.isDone = true;
    await new Promise<void>((resolve) => {
      this.stream.write('', () => {
        resolve();
      });
    });
  }
}

/**
 * A stream that never waits. Of a pipe or a socket, which may be full for long, that is the runtime's own: one for files gives up
 * after a few attempts. Of a file or a terminal the runtime's own would wait.
 */
function openOutput(): Writable {
  return isPipe(STDOUT) ? process.stdout : createWriteStream('', { fd: STDOUT, autoClose: false });
}
