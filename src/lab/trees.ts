/** The trees with libvirt, and private roots over them that show the checkout at its own path. */
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { installRoot } from '../posix/root.ts';
import type { DaemonKind } from './generation.ts';
import { Lab, type RootOptions } from './root.ts';

/** 9.0.0 is the machine's own; the others live in trees built by scripts/lab.sh. */
export const suites: Partial<Record<DaemonKind, string>> = {
  '7.0.0': 'bullseye',
  '11.3.0': 'trixie',
  '12.8.0': 'sid',
};

/** The tree of a Debian release. */
export function treeNamed(suite: string): string {
  return join(process.env.VIRTLOCKD_LAB ?? '/var/cache/virtlockd-lab', suite);
}

/** The tree that the lab of that daemon shows as its root: this machine's own for 9.0.0 and ours. */
export function treeOf(kind: DaemonKind): string {
  const suite = suites[kind];
  return suite === undefined ? '/' : treeNamed(suite);
}

/** The checkout's directory, at the same path in every lab. */
export const checkout = realpathSync(installRoot);

/** The directories that a daemon of the checkout needs at their own paths. */
export const ownDirectories = [checkout, realpathSync(join(checkout, 'node_modules'))];

/**
 * Opens a lab whose root is that daemon's tree.
 * @param share more directories to share, such as the storage of two hosts
 * @throws Error with the message of mount, when the root cannot be made.
 */
export async function openLab(
  kind: DaemonKind = 'ours',
  share: readonly string[] = [],
  tree = treeOf(kind),
  options: Pick<RootOptions, 'offline' | 'hostname'> = {},
): Promise<Lab> {
  return Lab.open({ ...options, tree, share: [...ownDirectories, ...share] });
}
