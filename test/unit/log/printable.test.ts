import assert from 'node:assert/strict';
import fc from 'fast-check';
import { printable, printableBytes } from '../../../src/log/printable.ts';

const bytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

describe('printable names', () => {
  const cases: readonly (readonly [what: string, name: string, shown: string])[] = [
    ['plain names', 'web-01.img', 'web-01.img'],
    ['UTF-8', bytes('gäste/東京'), 'gäste/東京'],
    ['markup, which only a page must escape', '<script>alert(1)</script>', '<script>alert(1)</script>'],
    ['terminal escapes', '\x1b[31mred\x1b[0m', '\\x1b[31mred\\x1b[0m'],
    ['lines', 'a\nb\tc\r', 'a\\nb\\tc\\x0d'],
    ['invalid UTF-8', '\xff\xfeok', '\\xff\\xfeok'],
    ['overlong and cut sequences', '\xc0\xafx\xe2\x82', '\\xc0\\xafx\\xe2\\x82'],
    ['C1 controls', bytes('a\u009bb'), 'a\\u{9b}b'],
    ['reversed text', bytes('a\u202eb'), 'a\\u{202e}b'],
    ['a byte order mark', bytes('\ufeffa'), '\\u{feff}a'],
    ['the escape character itself', '\\x1b', '\\\\x1b'],
  ];
  for (const [what, name, shown] of cases) {
    it(`escapes ${what}`, () => {
      assert.equal(printable(name), shown);
    });
  }

  it('never shows a control, and never gives two names one text', () => {
    const name = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array).toString('latin1'));
    fc.assert(
      fc.property(name, name, (one, other) => {
        assert.doesNotMatch(printable(one), /[\p{Cc}\p{Zl}\p{Zp}]/u);
        assert.equal(printable(one) === printable(other), one === other);
        assert.equal(Buffer.from(printableBytes(one), 'latin1').toString('utf8'), printable(one));
      }),
      { numRuns: 2000 },
    );
  });
});
