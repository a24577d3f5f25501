/** The corpus and the findings on disk: a file an input, named by its content, so that no order of writing matters. */
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

  /** Everything stored, in an order that depends on the content alone. */
  load(): Buffer[] {
    const { directory } = this;
    if (directory === undefined) return [];
    return readdirSync(directory)
      .sort()
      .map((name) => readFileSync(path.join(directory, name)));
  }

  /** The path of the stored file. */
  add(content: Buffer | string, prefix: string, extension: string): string {
    if (this.directory === undefined) return '(not kept)';
    const hash = createHash('sha256').update(content).digest('hex').slice(0, 16);
    const file = path.join(this.directory, `${prefix}-${hash}${extension}`);
    if (!existsSync(file)) writeFileSync(file, content);
    return file;
  }
}
