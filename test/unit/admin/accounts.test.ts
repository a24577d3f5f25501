import assert from 'node:assert/strict';
import os from 'node:os';
import { findEntry, groupName, userName } from '../../../src/admin/accounts.ts';

describe('accounts', () => {
  const lines =
    'root:x:0:0::/root:/bin/sh\n+\n#:x:5\nlabuser:x:47110:47110::/run/labuser:/bin/sh\n:x:6\nlast:x:47110:\n';

  it('are found by number, the first of several', () => {
    assert.equal(findEntry(lines, 0), 'root');
    assert.equal(findEntry(lines, 47110), 'labuser');
    assert.equal(findEntry(lines, 6), undefined);
    assert.equal(findEntry(lines, 7), undefined);
    assert.equal(findEntry('', 0), undefined);
  });

  it('of this process are those the system names', () => {
    const { uid, username } = os.userInfo();
    assert.equal(userName(uid), username);
    assert.equal(groupName(0), 'root');
  });

  it('without a name are their numbers', () => {
    assert.equal(userName(4009000001), '4009000001');
    assert.equal(groupName(4009000001), '4009000001');
  });
});
