/** A private root over one of the trees with libvirt, in which the checkout is found at its own path. */
import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Holder, makeRoot, PrivateRoot } from '../../src/lab/private-root.ts';
import { type Generation, treeOf } from './requirements.ts';

export { ordinaryUser } from '../../src/lab/private-root.ts';
export type { SpawnOptions } from '../../src/lab/place.ts';

/** The checkout's directory; visible at the same path in every lab. */
export const checkout = realpathSync(join(dirname(fileURLToPath(import.meta.url)), '../..'));

/** What a daemon of the checkout needs to find at its own path. */
export const ownDirectories = [checkout, realpathSync(join(checkout, 'node_modules'))];

export class Lab extends PrivateRoot {
  readonly generation: Generation;

  private constructor(holder: Holder, generation: Generation) {
    super(holder);
    this.generation = generation;
  }

  /**
   * Opens a lab whose root is that generation's tree, or for 9.0.0 this machine itself.
   * @param share more directories to be the same inside and outside, such as what two hosts would share
   * @param tree another tree with libvirt of that generation
   * @throws Error with what mount said, when the root cannot be made.
   */
  static async open(
    generation: Generation = '9.0.0',
    share: readonly string[] = [],
    tree = treeOf(generation),
  ): Promise<Lab> {
    return new Lab(await makeRoot({ tree, share: [...ownDirectories, ...share] }), generation);
  }
}
