/** The corpus or the findings on disk: one file an input, named by the hash of its content. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export class Store {
  private readonly directory: string | undefined;

  /** @param directory made if missing; undefined keeps nothing */
  constructor(directory: string | undefined) {
    this.directory = directory;
    if (directory !== undefined) mkdirSync(directory, { recursive: true });
  }

  /** All inputs, in an order that depends only on their contents. */
  load(): Buffer[] {
    const { directory } = this;
    if (directory === undefined) return [];
    return readdirSync(directory)
      .sort()
      .map((name) => readFileSync(path.join(directory, name)));
  }

  /** Stores an input and returns its path. */
  add(content: Buffer | string, prefix: string, extension: string): string {
    if (this.directory === undefined) return '(not kept)';
    const hash = createHash('sha256').update(content).digest('hex').slice(0, 16);
    const file = path.join(this.directory, `${prefix}-${hash}${extension}`);
    if (!existsSync(file)) writeFileSync(file, content);
    return file;
  }
}
