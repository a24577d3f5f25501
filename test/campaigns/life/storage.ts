/** The storage of two hosts: a directory of disks, a lockspace, and a file system that hangs on demand. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { autocreate, shared } from '../../../src/lab/wire.ts';
import { Child, type Line } from './children.ts';
import type { Alias, EndPlan } from './plan.ts';

type HungLine = Line & { readonly is: 'ready' | 'hung'; readonly name: string };

/** One disk of a writer. */
export interface Disk {
  readonly image: string;
  /** Its name on the file system that hangs, if it is there. */
  readonly hangs: string | undefined;
  /** The lock's lockspace, '' for the default one, and its name there. */
  readonly lockspace: string;
  readonly names: Readonly<Record<Alias, string>>;
  /** The file that is locked. */
  readonly lockFile: string;
  /** Of the acquires: SHARED is the writer's own. */
  readonly flags: number;
}

/** The last writer, as a disk names it: see native/disk.h. */
export interface LastWrite {
  readonly byWriter: boolean;
  readonly counter: number;
  /** CLOCK_MONOTONIC in ns. */
  readonly at: number;
}

/** The first word of a record, least significant byte first. */
const BY_WRITER = ' writer\0';

export class Storage {
  readonly directory: string;
  readonly lockspace: string;
  readonly #mount: string;
  readonly #fs: Child<HungLine>;

  private constructor(directory: string) {
    this.directory = directory;
    this.lockspace = join(directory, 'space');
    this.#mount = join(directory, 'hangs');
    for (const path of [this.lockspace, this.#mount]) mkdirSync(path);
    this.#fs = new Child('hung-fs', [this.#mount]);
  }

  static async make(): Promise<Storage> {
    const directory = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-life-'));
    chmodSync(directory, 0o755);
    const storage = new Storage(directory);
    try {
      await storage.#fs.line('ready');
    } catch (error) {
      await storage.remove();
      throw error;
    }
    return storage;
  }

  /** The directories that a host must be given, in this order. */
  get shares(): readonly string[] {
    return [this.directory, this.#mount];
  }

  /** @param name of a disk that was not there before */
  makeDisk(name: string, { way, place, shared: isShared }: EndPlan): Disk {
    const onHung = way.behaviour === 'hung';
    const image = join(onHung ? this.#mount : this.directory, name);
    writeFileSync(image, Buffer.alloc(64));
    const flags = isShared ? shared : 0;
    const common = { image, hangs: onHung ? name : undefined };
    if (place === 'direct') {
      const names = { name: image, hard: `${image}.hard`, link: join(this.directory, `${name}.link`) };
      if (!onHung) linkSync(image, names.hard);
      symlinkSync(image, names.link);
      return { ...common, names, flags, lockspace: '', lockFile: image };
    }
    const resource = createHash('sha256').update(image).digest('hex');
    return {
      ...common,
      names: { name: resource, hard: resource, link: resource },
      flags: flags | autocreate,
      lockspace: this.lockspace,
      lockFile: join(this.lockspace, resource),
    };
  }

  lastWrite({ image }: Disk): LastWrite {
    const bytes = readFileSync(image);
    return {
      byWriter: bytes.toString('latin1', 0, 8) === BY_WRITER,
      counter: Number(bytes.readBigUInt64LE(16)),
      at: Number(bytes.readBigInt64LE(24)),
    };
  }

  /** Lets every write or fsync of a writer's first disk hang from now on, and waits until one does. */
  async hang([disk]: readonly Disk[], operation: 'write' | 'fsync'): Promise<void> {
    const name = disk?.hangs;
    if (name === undefined) return;
    this.#fs.tell(`hang ${name} ${operation}`);
    const isHung = (): true | undefined =>
      this.#fs.lines.some((line) => line.is === 'hung' && line.name === name) ? true : undefined;
    if ((await this.#fs.until(isHung, 10_000)) !== true) throw new Error(`no ${operation} of ${name} hangs`);
  }

  /** Whoever waits for that disk goes on. */
  answer([disk]: readonly Disk[]): void {
    if (disk?.hangs !== undefined) this.#fs.tell(`answer ${disk.hangs}`);
  }

  async remove(): Promise<void> {
    await this.#fs.end();
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}
