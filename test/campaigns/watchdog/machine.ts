/** The virtual machine that plays the scenes, with a watchdog, and prints facts on its second serial line. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { missingEtcd } from '../../../src/lab/requirements.ts';
import { treeNamed } from '../../../src/lab/trees.ts';
import { addFirstProgram, firstProgramOf, missingForCheckout, partsFor } from '../checkout-machine.ts';
import type { Machine } from '../machine.ts';
import type { Plan } from './plan.ts';

const TREE = treeNamed('bookworm-nfs');

const CAMPAIGN = 'watchdog';
const START = firstProgramOf(CAMPAIGN);

/** This machine, as the virtual one sees it. */
export const GATEWAY = '10.0.2.2';

/** Why no virtual machine can be run here, or undefined. */
export function missingVirtualMachine(): string | undefined {
  return missingForCheckout([TREE]) ?? missingEtcd();
}

/** @param monitor the path at which QEMU listens for one that speaks QMP */
export function machineFor(plan: Plan, monitor: string): Machine {
  return {
    emulator: 'qemu-system-x86_64',
    hardware: [
      ...['-accel', 'tcg', '-cpu', 'max', '-serial', 'stdio'],
      ...['-device', 'i6300esb', '-action', 'watchdog=reset'],
      ...['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='],
      ...['-qmp', `unix:${monitor},server=on,wait=off`],
    ],
    memory: 1024,
    bootsAgain: true,
    kernelTree: TREE,
    console: 'ttyS0',
    kernelWords: [`init=${START.path}`, 'net.ifnames=0'],
    system: {
      name: 'watchdog.img',
      size: 2048,
      tree: TREE,
      recipe: ['image 1', START.text].join('\n'),
      furnish: (root) => {
        addFirstProgram(root, START);
      },
    },
    checkout: {
      size: 512,
      parts: partsFor(CAMPAIGN),
      furnish: (stage) => {
        writeFileSync(join(stage, 'plan.json'), JSON.stringify(plan));
      },
    },
  };
}
