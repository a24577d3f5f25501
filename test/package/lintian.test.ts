/** Debian's own checker finds nothing in the package. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { skipIf } from '../support/skip.ts';
import { packageFile } from './deb.ts';
import { debian12, missingRelease } from './trees.ts';

describe('lintian', function () {
  this.timeout(240_000);

  it('finds no errors in the package', function () {
    const installed = spawnSync('lintian', ['--version']).status === 0;
    skipIf(this, missingRelease(debian12), installed ? undefined : 'lintian is not installed');
    const { status, stdout } = spawnSync('lintian', ['--fail-on', 'error', packageFile()], { encoding: 'utf8' });
    assert.equal(status, 0, stdout);
  });
});
