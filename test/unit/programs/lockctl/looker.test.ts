import assert from 'node:assert/strict';
import { foundIn } from '../../../../src/programs/lockctl/kernel/looker.ts';

describe('what a child has found at a path', () => {
  it('is a file, by numbers of up to 64 bits', () => {
    assert.deepEqual(foundIn('45 12'), { device: 45, inode: 12n });
    assert.deepEqual(foundIn('45 -1'), { device: 45, inode: 0xffff_ffff_ffff_ffffn });
    assert.deepEqual(foundIn('45 -9223372036854775808'), { device: 45, inode: 0x8000_0000_0000_0000n });
  });

  it('is the code of an error, though that has several words', () => {
    for (const code of ['ENOENT', 'Unknown system error -77']) assert.equal(foundIn(code), code);
  });
});
