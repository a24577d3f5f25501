/** Programs for arm64 on this machine, by QEMU's user mode. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { checkout } from '../../../src/lab/trees.ts';

const SCRIPT = '"$1" --run-foreign && echo ready && while read -r line; do :; done';

/**
 * Has the kernel run them, in every tree, while the task runs: it forgets the format with the last mount of binfmt_misc.
 * @throws Error when it cannot
 */
export async function withForeignPrograms<T>(task: () => T | Promise<T>): Promise<T> {
  const words = [
    '--mount',
    '--propagation',
    'private',
    '/bin/sh',
    '-c',
    SCRIPT,
    'sh',
    join(checkout, 'scripts/lab.sh'),
  ];
  const holder = spawn('unshare', words, { stdio: ['pipe', 'pipe', 'inherit'] });
  const closed = once(holder, 'close');
  try {
    const isReady = await Promise.race([once(holder.stdout, 'data').then(() => true), closed.then(() => false)]);
    if (!isReady) throw new Error('programs for arm64 cannot be run: see above');
    return await task();
  } finally {
    holder.stdin.end();
    await closed;
  }
}
