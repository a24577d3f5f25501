/** A copy of the build, of which a test may damage any part. */
import { cpSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeBuild } from '../../scripts/build-id.js';
import { checkout } from '../../src/lab/trees.ts';

const NODE = `node_modules/node-linux-${process.arch === 'arm64' ? 'arm64' : 'x64'}`;

export const FS_EXT = 'node_modules/fs-ext/build/Release/fs_ext.node';

export class Installation {
  readonly root: string;

  /** @param root a directory to be made */
  constructor(root: string) {
    this.root = root;
    const parts = Object.keys(
      (JSON.parse(readFileSync(join(checkout, 'dist/build.json'), 'utf8')) as { parts: object }).parts,
    );
    mkdirSync(join(root, 'node_modules'), { recursive: true });
    symlinkSync(join(checkout, NODE), join(root, NODE));
    for (const part of [...parts, 'dist/build.json']) cpSync(join(checkout, part), join(root, part));
  }

  path(part: string): string {
    return join(this.root, part);
  }

  read(part: string): Buffer {
    return readFileSync(this.path(part));
  }

  /** Replaces a part as a package manager does: processes that have it open or mapped keep the old one. */
  replace(part: string, bytes: Uint8Array | string): void {
    const path = this.path(part);
    writeFileSync(`${path}.new`, bytes, { mode: 0o755 });
    renameSync(`${path}.new`, path);
  }

  /** Makes a build of the present files. */
  rebuild(): void {
    writeBuild(this.root, { version: process.versions.node, arch: process.arch });
  }

  /** Restores the files of the build. */
  repair(part: string): void {
    this.replace(part, readFileSync(join(checkout, part)));
  }
}

/** The bytes with one bit flipped. */
export function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}

/** So many bits of that many bytes, the same for the same seed. */
export function bitsOf(length: number, count: number, seed: number): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * length * 8);
  });
}
