/** rival.py on a host: finds spans in which the kernel of that host, and so the NFS server, has nobody's lock on a file. */
import { eventually, type Running } from '../../../../src/lab/process.ts';
import { type Host, PATIENCE } from './host.ts';

export interface Free {
  readonly file: string;
  readonly ms: number;
}

type Line = Free | { readonly asked: number };

export class Rival {
  readonly #process: Running;

  private constructor(process: Running) {
    this.#process = process;
  }

  /** @param mode take: asks for the locks, and lets go at once; look: only asks who has them, and so changes nothing */
  static async start(host: Host, mode: 'take' | 'look', files: readonly string[]): Promise<Rival> {
    const rival = new Rival(
      host.spawn('/usr/bin/python3', ['-S', '-E', `${import.meta.dirname}/rival.py`, mode, ...files]),
    );
    await eventually('the rival asks', () => rival.#lines().length > 0, PATIENCE);
    return rival;
  }

  /** Ends it. Returns the spans, and how often it asked. @throws Error with what it said when it failed */
  async end(): Promise<{ readonly free: readonly Free[]; readonly asked: number }> {
    const { code, stderr } = await this.#process.stop('SIGTERM', PATIENCE);
    if (code !== 0) throw new Error(`the rival: ${stderr}`);
    const lines = this.#lines();
    const last = lines.at(-1);
    return {
      free: lines.filter((line): line is Free => 'file' in line),
      asked: last !== undefined && 'asked' in last ? last.asked : 0,
    };
  }

  #lines(): Line[] {
    const text = this.#process.output;
    return text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line);
  }
}
