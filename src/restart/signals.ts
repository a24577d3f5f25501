/**
 * SIGUSR1 around exec: it may not find a program that does not listen for it yet. Only this one can be kept away: when
 * Node.js starts, it unblocks all others.
 */
import os from 'node:os';
import { posix } from '../posix/posix.ts';

export const { SIGUSR1 } = os.constants.signals;

/** Set in the environment of a successor for which SIGUSR1 is blocked already, so that its launcher need not do it. */
export const SIGNAL_BLOCKED = 'VIRTLOCKD_SIGNAL_BLOCKED';

/** Blocks it, or unblocks it: one that came meanwhile is then delivered. */
export function blockSignal(block: boolean): void {
  posix.blockSignal(SIGUSR1, block);
}

/** For the environment of what this process spawns, or executes that is no successor of its kind. */
export function forgetSignalBlocked(): void {
  Reflect.deleteProperty(process.env, SIGNAL_BLOCKED);
}
