/**
 * Signals around exec. SIGUSR1 may not find a program that does not listen for it yet. Only this one can be kept away: when
 * Node.js starts, it unblocks all others. Those that end the daemon may not go with the program that has heard them.
 */
import os from 'node:os';
import { posix } from '../posix/posix.ts';

export const { SIGUSR1 } = os.constants.signals;

/** Blocks it, or unblocks it: one that came meanwhile is then delivered. */
export function blockSignal(block: boolean): void {
  posix.blockSignal(SIGUSR1, block);
}

/** Keeps SIGUSR1 waiting, and those that end the daemon in mind: exec will not happen once one of these has come. */
export function holdSignals(): void {
  blockSignal(true);
  posix.holdEnds(true);
}

/** Delivers what came since {@link holdSignals}. */
export function releaseSignals(): void {
  posix.holdEnds(false);
  blockSignal(false);
}
