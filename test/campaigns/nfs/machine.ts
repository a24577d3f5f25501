/** The virtual machine that plays the scenes, and prints facts on its second serial line. */
import { execFile } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { addFirstProgram, firstProgramOf, missingForCheckout, partsFor } from '../checkout-machine.ts';
import type { Machine } from '../machine.ts';
import { type Kernel, kernelTrees, machineTree } from './kernels.ts';
import type { SceneName } from './plan.ts';

const run = promisify(execFile);

const CAMPAIGN = 'nfs';
const START = firstProgramOf(CAMPAIGN);

/** Why no virtual machine can be run here, or undefined. */
export function missingVirtualMachine(kernel: Kernel): string | undefined {
  return missingForCheckout([machineTree, kernelTrees[kernel]]);
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
    kernelWords: [`init=${START.path}`],
    system: {
      name: `nfs-${kernel}.img`,
      size: 2048,
      tree: machineTree,
      otherTrees: isForeign ? [kernelTree] : [],
      recipe: ['image 1', START.text].join('\n'),
      furnish: async (root) => {
        if (isForeign) {
          const modules = childrenOf(join(kernelTree, 'lib/modules'));
          await run('cp', ['--archive', '--link', ...modules, join(root, 'lib/modules')]);
        }
        addFirstProgram(root, START);
      },
    },
    checkout: {
      size: 512,
      parts: partsFor(CAMPAIGN),
      furnish: (stage) => {
        writeFileSync(join(stage, 'plan.json'), JSON.stringify({ kernel, scenes }));
      },
    },
  };
}
