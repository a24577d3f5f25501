import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { adoptFile, releaseFile } from '../../../src/lockspace/files.ts';
import { posix } from '../../../src/posix/posix.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { lockOf, temporaryDirectory } from '../support/locks.ts';
import { findEntry, groupName, userName } from '../../../src/admin/accounts.ts';

/** As a connection does: makes the call again each time it is told to. */
async function answer(call: () => string): Promise<string> {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (!(error instanceof Waiting)) throw error;
      await new Promise<void>((done) => error.begin(done));
    }
  }
}

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
    const released = answer(() => userName(0));
    assert.equal(lockOf(file), 'READ');
    releaseFile(held, '', file, false);
    return released.then((name) => {
      assert.equal(name, 'root');
    });
  });

  it('without a name are their numbers', async () => {
    assert.equal(await answer(() => userName(4009000001)), '4009000001');
    assert.equal(await answer(() => groupName(4009000001)), '4009000001');
  });

  describe('of a directory service', () => {
    let directory: ReturnType<typeof temporaryDirectory>;
    const { PATH } = process.env;
    before(() => {
      directory = temporaryDirectory();
      process.env.PATH = `${directory.path}:${PATH ?? ''}`;
    });
    after(() => {
      process.env.PATH = PATH;
      directory.remove();
    });
    const install = (script: string): void => {
      writeFileSync(join(directory.path, 'getent'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    };

    it('are asked for once', async () => {
      install(`echo >> ${directory.path}/asked; echo "$1-$2:x:$2:"`);
      const both = await Promise.all([answer(() => userName(4009000002)), answer(() => userName(4009000002))]);
      assert.deepEqual(both, ['passwd-4009000002', 'passwd-4009000002']);
      assert.equal(userName(4009000002), 'passwd-4009000002');
      assert.equal(posix.statInode(`${directory.path}/asked`), 0);
    });

    it('that hangs and ignores SIGTERM are their numbers after a second, and nothing else waits', async () => {
      install(`trap '' TERM; while :; do sleep 0.1; done`);
      assert.throws(() => userName(4009000003), Waiting, 'the caller alone waits');
      let turns = 0;
      const timer = setInterval(() => turns++, 10);
      assert.equal(await answer(() => userName(4009000003)), '4009000003');
      clearInterval(timer);
      assert.ok(turns > 10, 'the loop went on');
    });
  });
});
