/** What this process logs while a test runs. */
import { readFileSync } from 'node:fs';
import { logging } from '../../../src/log/log.ts';

export class LogRecorder {
  private readonly file: string;

  /** @param file where it is written to */
  constructor(file: string) {
    this.file = file;
    logging.setOutputs(`1:file:${file}`);
  }

  /** Lines from warnings on, as `warning: text`. */
  get lines(): string[] {
    const rows = readFileSync(this.file, 'latin1').matchAll(/^.*: (warning|error) : \S+ : (.*)$/gm);
    return Array.from(rows, ([, level = '', text = '']) => `${level}: ${text}`);
  }

  stop(): void {
    logging.setOutputs('');
  }
}
