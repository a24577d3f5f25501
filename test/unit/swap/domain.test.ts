import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { lackOfPermission } from '../../../src/swap/domain.ts';
import { temporaryDirectory } from '../support/locks.ts';

describe('the SELinux domain of a C daemon', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  const file = (name: string): string => path.join(directory.path, name);

  before(() => {
    directory = temporaryDirectory();
  });

  after(() => {
    directory.remove();
  });

  /** What is found where `enforce` has that content and runcon is that script. */
  function lack(enforce: string, runcon: string): string | undefined {
    writeFileSync(file('enforce'), enforce);
    writeFileSync(file('runcon'), `#!/bin/sh\n${runcon}\n`, { mode: 0o755 });
    return lackOfPermission(process.pid, '/usr/sbin/virtlockd', { enforce: file('enforce'), runcon: file('runcon') });
  }

  it('is not asked for where there is no SELinux, or it is permissive', () => {
    const runcon = file('runcon');
    assert.equal(lackOfPermission(process.pid, '/x', { enforce: file('missing'), runcon }), undefined);
    assert.equal(lack('0', 'exit 1'), undefined);
  });

  // Where the kernel has SELinux, or no security module at all, the context of this process says so or cannot be read.
  it('may not run the program if it cannot be found out', () => {
    assert.match(lack('1', 'echo Permission denied >&2; exit 1') ?? '', /^SELinux is not known to let its domain/);
    const directoryForFile = { enforce: directory.path, runcon: file('runcon') };
    assert.match(lackOfPermission(process.pid, '/x', directoryForFile) ?? '', /EISDIR/);
    assert.match(lackOfPermission(2 ** 30, '/x', { enforce: file('enforce'), runcon: file('runcon') }) ?? '', /ENOENT/);
  });
});
