import assert from 'node:assert/strict';
import { formatName, kindOf, parseName, serialOf, StoredKind, storedName } from '../../../src/store/names.ts';

describe('names of stored descriptors', () => {
  it('are numbers, and six characters at most', () => {
    for (const kind of Object.values(StoredKind)) {
      for (const serial of [0, 1, 35, 36, 60_466_175]) {
        const name = storedName(kind, serial);
        assert(name > 0 && name <= 0xffff_ffff);
        const text = formatName(name);
        assert(text.length <= 6, text);
        assert.equal(parseName(text), name);
        assert.equal(kindOf(name), kind);
        assert.equal(serialOf(name), serial);
      }
    }
    assert.equal(storedName(StoredKind.FILE, 60_466_176), storedName(StoredKind.FILE, 0));
  });

  it('differ from the names of other programs', () => {
    for (const text of ['', 'F', 'stored', 'virtlockd.socket', 'F123456', 'F01', '-1', 'X1', 'unknown', 'f1']) {
      assert.equal(parseName(text), undefined, text);
    }
  });
});
