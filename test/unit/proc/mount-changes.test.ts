import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mountChanges } from '../../../src/proc/mount-changes.ts';
import { skipIf } from '../../support/skip.ts';
import { temporaryDirectory } from '../support/locks.ts';

describe('changes of mounts', () => {
  it('are seen at once, without a turn of the event loop', function () {
    skipIf(this, process.geteuid?.() === 0 ? undefined : 'root is needed');
    const { path, remove } = temporaryDirectory();
    const numbers = [mountChanges()];
    execFileSync('mount', ['-t', 'tmpfs', 'none', path]);
    numbers.push(mountChanges());
    execFileSync('umount', [path]);
    numbers.push(mountChanges());
    remove();
    assert.equal(new Set(numbers).size, 3);
  });
});
