import assert from 'node:assert/strict';
import { keepBytes } from '../../../../src/programs/lockctl/arguments.ts';
import { toBytes } from '../../../../src/programs/lockctl/context.ts';

describe('an argument', () => {
  for (const bytes of [
    'plain',
    'caf\xc3\xa9',
    '\xef\xbf\xbd',
    'z\xff',
    '--path=\xc3\xa9\x80/\xf0\x9f\x92\x80',
    '\xed\xb2\x80',
  ]) {
    it(`of the bytes ${JSON.stringify(bytes)} keeps them`, () => {
      assert.equal(toBytes(keepBytes(bytes)), bytes);
    });
  }

  it('is text where it can be', () => {
    assert.equal(keepBytes('caf\xc3\xa9'), 'café');
  });
});
