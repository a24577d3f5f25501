import assert from 'node:assert/strict';
import { json } from '../../../../src/programs/lockctl/output.ts';

describe('JSON on a terminal', () => {
  const hidden = [
    0x7f, 0x9b, 0xad, 0x61c, 0x180e, 0x200b, 0x200f, 0x2028, 0x202e, 0x2066, 0xfeff, 0xe0000, 0xe0041, 0xe007f,
  ];
  for (const code of hidden) {
    it(`shows U+${code.toString(16)}`, () => {
      const text = `a${String.fromCodePoint(code)}b`;
      const shown = json({ text });
      assert.match(shown, /^[ -~]+$/);
      assert.deepEqual(JSON.parse(shown), { text });
    });
  }

  it('leaves the rest as it is', () => {
    assert.equal(json(['é', '漢', '😀', 'a\nb'], 1), '[\n "é",\n "漢",\n "😀",\n "a\\nb"\n]');
  });
});
