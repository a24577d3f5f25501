import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { installRoot } from '../../../src/posix/root.ts';

/** What find_store has systemctl do, where that names this process as the unit's. */
function calls(lib: string): string[] {
  const script = `
. '${join(installRoot, 'packaging/scripts/common.sh')}'
. '${join(installRoot, 'packaging/scripts/running.sh')}'
lib='${lib}'
status=0
systemd_runs() { :; }
systemctl() {
  echo "$*" >&3
  case $* in *MainPID*) echo ${process.pid} ;; *) echo 1 ;; esac
}
find_store 3>&1 >/dev/null`;
  return execFileSync('sh', ['-ec', script], { encoding: 'utf8' }).trim().split('\n');
}

describe('a running lock daemon after an installation', () => {
  it('executes itself again if it runs in our program', () => {
    assert.ok(calls(join(process.execPath, '..')).includes('reload virtlockd.service'));
  });

  it('is left alone if it runs in another, which nothing has been checked for', () => {
    assert.ok(!calls('/usr/lib/virtlockd-node').includes('reload virtlockd.service'));
  });
});
