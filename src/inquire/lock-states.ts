/** Whether the locks on storage that hosts may share are still held: see lockspace/lock-watch.ts. */
import { type Change, ChangeType, Holding, type LockState as LockStateInfo } from '../../xdr/programs/inquire.ts';
import { EtcdFile } from '../etcd/engine.ts';
import type { LockLoss } from '../lockspace/lock-loss.ts';
import type { LockState, LockWatch } from '../lockspace/lock-watch.ts';
import type { Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import { describeFirst } from './locks.ts';
import type { Step } from './pages.ts';

/** Approximate bytes of an entry without its names. */
const ENTRY_SIZE = 80;
const MAX_REASON = 1000;
/** The most holds in an event. */
const MAX_HOLDS = 8;

const HOLDING: Readonly<Record<LockState['kind'], number>> = {
  unasked: Holding.NOT_ASKED,
  held: Holding.HELD,
  unknown: Holding.UNKNOWN,
  taken: Holding.TAKEN,
  gone: Holding.GONE,
  regained: Holding.REGAINED,
};

/** Locks of the kernel of this host alone are none of them. */
export function* describeLockStates(
  lockspaces: Lockspaces,
  lockWatch: Pick<LockWatch, 'stateOf'>,
): Generator<Step<LockStateInfo>> {
  for (const resource of lockspaces.resources()) {
    const state = resource.file instanceof EtcdFile ? stateInEtcd(resource.file) : lockWatch.stateOf(resource);
    if (state === null) {
      yield null;
      continue;
    }
    const { lockspace, name, path } = resource;
    const { kind, confirmed, reason, loss } = state;
    const entry = {
      lockspace: lockspace.directory,
      name,
      path,
      holding: HOLDING[kind],
      confirmed,
      lost: loss?.found ?? 0,
      regained: loss?.regained ?? 0,
      pid: loss?.pid ?? 0,
      reason: reason.slice(0, MAX_REASON),
    };
    yield { entry, size: ENTRY_SIZE + lockspace.directory.length + name.length + path.length + reason.length };
  }
}

/** As the daemon's audits of the lease have found it. */
function stateInEtcd({ confirmed, missed }: EtcdFile): LockState {
  const state = { confirmed, reason: '' };
  if (missed === 0) return { kind: confirmed > 0 ? 'held' : 'unasked', ...state, loss: null };
  return { kind: 'gone', ...state, loss: { found: missed, confirmed, regained: 0, taken: false, pid: 0 } };
}

/** The event of a lock that was lost or is taken again. */
export function describeLoss(resource: Resource, { found, confirmed, regained, taken, pid }: LockLoss): Change {
  const holding = regained > 0 ? Holding.REGAINED : taken ? Holding.TAKEN : Holding.GONE;
  const lock = describeFirst(resource, MAX_HOLDS);
  return { type: ChangeType.LOST, value: { time: regained || found, lock, holding, confirmed, pid } };
}
