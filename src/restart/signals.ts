/**
 * Signals around exec: what comes then waits. The mask outlives exec, and launch.c and guard.c keep it while the runtime
 * starts, which would otherwise unblock everything before anybody listens.
 */
import { constants } from 'node:os';
import { logger } from '../log/log.ts';
import { posix } from '../posix/posix.ts';

const log = logger('locking.lock_daemon');

export const { SIGUSR1 } = constants.signals;

/** Keeps all signals waiting. Exec will not happen while one of them waits that ends the daemon. */
export function blockSignals(): void {
  posix.blockSignals();
}

/** Delivers what came since {@link blockSignals}, or since the program was started. */
export function releaseSignals(): void {
  posix.releaseSignals();
}

/** Ignores what would end the daemon by mistake, and says so, once for each signal. */
export function ignoreStrays(): void {
  posix.ignoreStrays((signal, sender) => {
    log.warn(`Ignoring ${signalName(signal)}${sender === 0 ? '' : ` from process ${sender}`}`);
  });
}

function signalName(signal: number): string {
  const named = Object.entries(constants.signals).find(([, number]) => number === signal);
  return named?.[0] ?? `signal ${signal}`;
}
