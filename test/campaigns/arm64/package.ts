/** The package for arm64, and what it needs to be tried. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { checkout, treeNamed } from '../../../src/lab/trees.ts';
import { missingFor } from '../machine.ts';
import type { Part } from './options.ts';

/** Debian 12 for arm64, as scripts/lab.sh builds it. */
export const armTree = treeNamed('bookworm-arm64');

const USER_MODE = { 'qemu-aarch64-static': 'qemu-user-static', unshare: 'util-linux', python3: 'python3' } as const;

const TOOLS = {
  machine: { 'qemu-system-aarch64': 'qemu-system-arm', 'mkfs.ext4': 'e2fsprogs' },
  user: USER_MODE,
  conformance: USER_MODE,
} as const satisfies Record<Part, Readonly<Record<string, string>>>;

/** Why that part cannot be run here, or undefined. */
export function missingForPart(part: Part): string | undefined {
  return missingFor({ 'aarch64-linux-gnu-g++': 'g++-aarch64-linux-gnu', ...TOOLS[part] }, [armTree]);
}

/** Builds the package. Returns its path. @throws Error with what the build said */
export function armPackage(): string {
  const build = [join(checkout, 'packaging/build.ts'), '--arch=arm64', '--compression=gzip', '--level=1'];
  const output = execFileSync(join(checkout, 'scripts/node'), build, { cwd: checkout, encoding: 'utf8' });
  const file = /^(.*\.deb): /m.exec(output)?.[1];
  if (file === undefined) throw new Error(`no package was built: ${output}`);
  return file;
}
