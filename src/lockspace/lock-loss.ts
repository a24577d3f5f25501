/**
 * Locks that another host may have got while this one was cut off from the file server: what the answers to CONFIRM_LOCK mean (see
 * storage/proof.h for what the file systems can be asked), and what becomes of a lock.
 */
import { constants } from 'node:os';
import { strerror } from '../posix/posix.ts';
import { type Answer, AnswerFlag } from '../storage/messages.ts';

const { EBUSY, EOPNOTSUPP } = constants.errno;

/** What an answer says of a lock. Unknown is neither held nor lost. */
export type Verdict =
  /** Nothing speaks against it. */
  | { readonly kind: 'held' }
  /** Another process or host has it. `pid`: as the file system names it, 0 if it does not; of whichever host. */
  | { readonly kind: 'taken'; readonly pid: number }
  /** It is not held, and nobody else has it, as far as is known. */
  | { readonly kind: 'gone' }
  /** Its file system cannot be asked. */
  | { readonly kind: 'unasked' }
  | { readonly kind: 'unknown'; readonly reason: string };

/** A lock that was lost. Times are milliseconds since 1970. */
export interface LockLoss {
  /** When that was found. */
  readonly found: number;
  /** When it was last known to be held; 0: never since this daemon began to ask. */
  readonly confirmed: number;
  /** When it was taken again; 0: it was not. */
  readonly regained: number;
  /** Another process or host was seen to have it: with this pid, if the file system named one, else 0. */
  readonly taken: boolean;
  readonly pid: number;
}

/**
 * @param answer null: the helper has died
 * @param isOurs whether a process is a storage helper, the daemon, or an owner of the lock: none of these has taken it
 */
export function verdictOf(answer: Answer | null, isOurs: (pid: number) => boolean): Verdict {
  if (answer === null) return { kind: 'unknown', reason: 'its storage helper has ended' };
  const { status, flags, rival } = answer;
  if (status === 0) return { kind: 'held' };
  if ((flags & AnswerFlag.LOST) !== 0) return { kind: 'gone' };
  if ((flags & AnswerFlag.BUSY) !== 0) {
    if ((flags & AnswerFlag.OWN) !== 0)
      return { kind: 'unknown', reason: 'its storage helper has it under another name as well' };
    if (rival > 0 && isOurs(rival))
      return { kind: 'unknown', reason: `process ${rival} has it, which is one of this host's daemon or an owner` };
    return { kind: 'taken', pid: Math.max(rival, 0) };
  }
  if (status === -EOPNOTSUPP) return { kind: 'unasked' };
  if (status === -EBUSY)
    return { kind: 'unknown', reason: 'another lock was in its way when its file system was first asked about it' };
  return { kind: 'unknown', reason: strerror(status) };
}

/**
 * What has become of a lock after an answer; the same object if nothing has changed.
 *
 * @param confirmed when the lock was last known to be held
 */
export function lossAfter(loss: LockLoss | null, verdict: Verdict, now: number, confirmed: number): LockLoss | null {
  const isLost = loss !== null && loss.regained === 0;
  const lost = { found: now, confirmed, regained: 0 };
  switch (verdict.kind) {
    // The answer to LOCK_AGAIN went to a process that has ended.
    case 'held':
      return isLost ? { ...loss, regained: now } : loss;
    case 'taken':
      if (!isLost) return { ...lost, taken: true, pid: verdict.pid };
      return loss.taken ? loss : { ...loss, taken: true, pid: verdict.pid };
    case 'gone':
      return isLost ? loss : { ...lost, taken: false, pid: 0 };
    default:
      return loss;
  }
}
