/** Locks that were lost, and that another process has by then: their owners must not go on writing. */
import { logger } from '../log/log.ts';
import type { Resource } from './lockspaces.ts';
import { describeEnd, type Hold } from './owner.ts';

const log = logger('locking.lock_daemon');

/**
 * Logs the loss of these resources, and returns the holds whose owners are to be ended.
 *
 * @param pid the process that has the lock now
 */
export function holdsOfTaken(lost: Iterable<Resource>, pid: number): Hold[] {
  const taken: Hold[] = [];
  for (const { name, holds } of lost) {
    const live = holds.filter(({ end }) => end === undefined);
    for (const hold of live) taken.push(hold);
    // Otherwise it is logged already.
    if (live.length > 0)
      log.error(`The lock of resource '${name}' was lost, and process ${pid} has it: its owners ${describeEnd(live)}`);
  }
  return taken;
}
