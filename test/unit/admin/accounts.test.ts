import assert from 'node:assert/strict';
import os from 'node:os';
import { adoptFile, releaseFile } from '../../../src/lockspace/files.ts';
import { posix } from '../../../src/posix/posix.ts';
import { lockOf } from '../support/locks.ts';
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

  it('are found without opening their file when it is held', () => {
    const file = '/etc/passwd';
    const fd = posix.openInode(file, 0);
    assert.equal(posix.lockNamed(fd, true, null), 0);
    const held = adoptFile(fd, true);
    assert.ok(held !== null);
    assert.equal(userName(0), 'root');
    assert.equal(lockOf(file), 'READ');
    releaseFile(held, '', file, false);
  });

  it('without a name are their numbers', () => {
    assert.equal(userName(4009000001), '4009000001');
    assert.equal(groupName(4009000001), '4009000001');
  });
});
