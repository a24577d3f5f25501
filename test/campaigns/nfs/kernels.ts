/** The kernels that the virtual machine can run: Debian 12's own, and an older one below the same programs. */
import { treeNamed } from '../../../src/lab/trees.ts';

export const kernels = ['6.1', '5.10'] as const;
export type Kernel = (typeof kernels)[number];

/** The tree with all programs of the machine, as scripts/lab.sh builds it. */
export const machineTree = treeNamed('bookworm-nfs');

/** The trees with the kernels and their modules. */
export const kernelTrees: Readonly<Record<Kernel, string>> = {
  '6.1': machineTree,
  '5.10': treeNamed('bullseye-kernel'),
};
