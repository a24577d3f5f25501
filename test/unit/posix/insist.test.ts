import assert from 'node:assert/strict';
import { insist } from '../../../src/posix/insist.ts';

describe('what is insisted on', () => {
  it('is done again until it works', () => {
    let tries = 0;
    const work = (): string => {
      if (++tries < 3) throw new Error('short');
      return 'done';
    };
    assert.equal(insist(work), 'done');
    assert.equal(tries, 3);
  });

  it('is given up at once for what does not pass', () => {
    let tries = 0;
    const work = (): never => {
      tries++;
      throw new Error('wrong');
    };
    assert.throws(() => insist<never>(work, () => false), /wrong/);
    assert.equal(tries, 1);
  });
});
