/** An ext4 of its own, on a loop device, that can be frozen: whoever makes or removes a name there waits, and cannot be killed. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import type { Lab } from './root.ts';

/** Where it is mounted. */
type Place = Pick<Lab, 'directory' | 'run'>;

const SIZE = 8 << 20;
/** Until it is thawed whatever becomes of the test, in seconds. */
const LIMIT = 30;

interface FreezingOptions {
  /** What is mounted is an overlay, of which it has the upper layer. */
  readonly isUpperLayer?: boolean;
}

export class FreezingStorage {
  readonly mount: string;
  /** The mount that is frozen. */
  private readonly ext4: string;
  private readonly place: Place;

  private constructor(place: Place, isUpperLayer: boolean) {
    this.place = place;
    this.ext4 = `${place.directory}/freezing`;
    this.mount = isUpperLayer ? `${place.directory}/overlay` : this.ext4;
  }

  /** Mounts one. */
  static async start(place: Place, { isUpperLayer = false }: FreezingOptions = {}): Promise<FreezingStorage> {
    const storage = new FreezingStorage(place, isUpperLayer);
    const { ext4 } = storage;
    const image = `${ext4}.img`;
    mkdirSync(ext4);
    writeFileSync(image, '');
    truncateSync(image, SIZE);
    execFileSync('mkfs.ext4', ['-q', image]);
    await storage.run('mount', '-o', 'loop', image, ext4);
    if (isUpperLayer) await storage.mountOverlay();
    return storage;
  }

  private async mountOverlay(): Promise<void> {
    const { ext4, mount } = this;
    const [lower, upper, work] = [`${mount}.lower`, `${ext4}/upper`, `${ext4}/work`];
    await this.run('mkdir', mount, lower, upper, work);
    await this.run(
      'mount',
      '-t',
      'overlay',
      '-o',
      `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
      'none',
      mount,
    );
  }

  at(name: string): string {
    return `${this.mount}/${name}`;
  }

  async freeze(): Promise<void> {
    // The thaw is under way before: a test that waits there can do nothing any more.
    await this.run('/bin/sh', '-c', `(sleep ${LIMIT}; fsfreeze -u ${this.ext4}) </dev/null >/dev/null 2>&1 &`);
    await this.run('fsfreeze', '-f', this.ext4);
  }

  async thaw(): Promise<void> {
    await this.run('fsfreeze', '-u', this.ext4);
  }

  /** Thaws and unmounts it. */
  async end(): Promise<void> {
    await this.place.run('fsfreeze', ['-u', this.ext4]);
    for (const mount of new Set([this.mount, this.ext4])) await this.run('umount', '--lazy', mount);
  }

  private async run(program: string, ...args: string[]): Promise<void> {
    const { code, stderr } = await this.place.run(program, args);
    if (code !== 0) throw new Error(`${program}: ${stderr}`);
  }
}
