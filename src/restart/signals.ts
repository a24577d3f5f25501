/**
 * SIGUSR1 around exec: it may not find a program that does not listen for it yet. Only this one can be kept away: when
 * Node.js starts, it unblocks all others.
 */
import os from 'node:os';
import { posix } from '../posix/posix.ts';

export const { SIGUSR1 } = os.constants.signals;

/** Blocks it, or unblocks it: one that came meanwhile is then delivered. */
export function blockSignal(block: boolean): void {
  posix.blockSignal(SIGUSR1, block);
}
