/** What answers about a lock mean, and what becomes of the lock. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { type LockLoss, lossAfter, type Verdict, verdictOf } from '../../../src/lockspace/lock-loss.ts';
import { type Answer, AnswerFlag } from '../../../src/storage/messages.ts';

const { BUSY, LOST, OWN } = AnswerFlag;
const { EAGAIN, EBUSY, EIO, ENOENT, ENOLCK, EOPNOTSUPP, ESTALE } = constants.errno;

function answer(status: number, flags = 0, rival = -1): Answer {
  return { operation: 14, status: -status, flags, file: 1, stat: null, rival, helper: 0, fd: -1 };
}

const nobody = (): boolean => false;

describe('an answer about a lock', () => {
  for (const [what, given, expected] of [
    ['nothing in the way', answer(0), { kind: 'held' }],
    ['another lock, of a process that is not named', answer(EAGAIN, BUSY, -1), { kind: 'taken', pid: 0 }],
    ['another lock, of process 0', answer(EAGAIN, BUSY, 0), { kind: 'taken', pid: 0 }],
    ['another lock, of a process', answer(EAGAIN, BUSY, 77), { kind: 'taken', pid: 77 }],
    ['a lock that is gone', answer(ENOLCK, LOST), { kind: 'gone' }],
    ['a file system that cannot be asked, or an older helper', answer(EOPNOTSUPP), { kind: 'unasked' }],
  ] as const) {
    it(`${what}: ${expected.kind}`, () => {
      assert.deepEqual(verdictOf(given, nobody), expected);
    });
  }

  it('says nothing where it is an error, whatever it is', () => {
    for (const status of [EAGAIN, EBUSY, EIO, ENOENT, ENOLCK, ESTALE])
      assert.equal(verdictOf(answer(status), nobody).kind, 'unknown', String(status));
    assert.equal(verdictOf(null, nobody).kind, 'unknown');
  });

  it('says nothing where the lock in the way is one of our own', () => {
    assert.equal(verdictOf(answer(EAGAIN, BUSY | OWN, -1), nobody).kind, 'unknown');
    assert.equal(verdictOf(answer(EAGAIN, BUSY, 77), (pid) => pid === 77).kind, 'unknown');
    assert.equal(verdictOf(answer(EAGAIN, BUSY, 78), (pid) => pid === 77).kind, 'taken');
  });
});

describe('a lock after an answer', () => {
  const held: Verdict = { kind: 'held' };
  const gone: Verdict = { kind: 'gone' };
  const taken: Verdict = { kind: 'taken', pid: 77 };
  const lost: LockLoss = { found: 10, confirmed: 5, regained: 0, taken: false, pid: 0 };

  it('is lost when another has it or it is gone, since then and last held when it was', () => {
    assert.deepEqual(lossAfter(null, taken, 10, 5), { ...lost, taken: true, pid: 77 });
    assert.deepEqual(lossAfter(null, gone, 10, 5), lost);
  });

  it('is not lost by an answer that says nothing', () => {
    for (const verdict of [{ kind: 'unknown', reason: 'x' }, { kind: 'unasked' }, held] as const)
      assert.equal(lossAfter(null, verdict, 10, 5), null);
  });

  it('stays lost, by one report, until it is held again', () => {
    for (const verdict of [gone, { kind: 'unknown', reason: 'x' }, { kind: 'unasked' }] as const)
      assert.equal(lossAfter(lost, verdict, 20, 5), lost);
    const found = lossAfter(lost, taken, 20, 5);
    assert.deepEqual(found, { ...lost, taken: true, pid: 77 });
    // It was another's, and is free now.
    assert.equal(lossAfter(found, gone, 30, 5), found);
    assert.equal(lossAfter(found, taken, 30, 5), found);
    assert.deepEqual(lossAfter(found, held, 40, 5), { ...found, regained: 40 });
  });

  it('is lost once more after it was held again', () => {
    const regained = { ...lost, taken: true, pid: 77, regained: 20 };
    assert.equal(lossAfter(regained, held, 30, 30), regained);
    assert.deepEqual(lossAfter(regained, gone, 40, 30), { ...lost, found: 40, confirmed: 30 });
    assert.deepEqual(lossAfter(regained, taken, 40, 30), { ...lost, found: 40, confirmed: 30, taken: true, pid: 77 });
  });
});
