/** Programs for arm64 on this machine, by QEMU's user mode. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { checkout } from '../../../src/lab/trees.ts';

/** Has the kernel run them, in every tree. @throws Error with what was said */
export function runForeign(): void {
  const words = ['--mount', '--propagation', 'private', join(checkout, 'scripts/lab.sh'), '--run-foreign'];
  execFileSync('unshare', words, { encoding: 'utf8' });
}
