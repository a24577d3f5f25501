/** The Debian releases in which the package is installed, each a tree with its own libvirt. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Generation } from '../../src/lab/generation.ts';
import { missingLab } from '../../src/lab/requirements.ts';
import { checkout, openLab, treeNamed, treeOf } from '../../src/lab/trees.ts';
import type { Lab } from '../../src/lab/root.ts';

export interface Release {
  readonly name: string;
  readonly generation: Generation;
  readonly tree: string;
}

/** The machine's own Debian 12 is not used: its tree is one that nothing else was installed in. */
export const debian12: Release = {
  name: 'Debian 12',
  generation: '9.0.0',
  tree: treeNamed('bookworm-systemd'),
};
export const debian13: Release = { name: 'Debian 13', generation: '11.3.0', tree: treeOf('11.3.0') };

/** Debian 13 with systemd, which boots. */
export const debian13Machine: Release = { ...debian13, tree: treeNamed('trixie-systemd') };

/** Debian 12 with what maintains a host, and with Debian 13's packages to be upgraded to; it boots. */
export const debian12Upkeep: Release = { ...debian12, tree: treeNamed('bookworm-upkeep') };

/** Why the package cannot be built or installed in that release here, or undefined. */
export function missingRelease({ tree, generation }: Release): string | undefined {
  const lab = missingLab(generation);
  if (lab !== undefined) return lab;
  if (!existsSync(join(tree, '.virtlockd-lab'))) return `${tree} is not built (scripts/lab.sh)`;
  if (!existsSync(join(checkout, 'dist/virtlockd.cjs'))) return 'dist/virtlockd.cjs is not built (npm run build)';
  for (const tool of ['dpkg-deb', 'strip', 'objdump']) {
    if (spawnSync(tool, ['--version']).status !== 0) return `${tool} is not installed`;
  }
  return undefined;
}

/** A lab of that release. */
export async function openRelease({ generation, tree }: Release): Promise<Lab> {
  return openLab(generation, [], tree);
}
