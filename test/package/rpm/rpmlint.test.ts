/** The checker that Fedora and SUSE use finds no errors in the RPM package. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { checkout } from '../../../src/lab/trees.ts';
import { skipIf } from '../../support/skip.ts';
import { missingRpm, ourPackage } from './packages.ts';

describe('rpmlint', function () {
  this.timeout(240_000);

  it('finds no errors in the package', function () {
    const installed = spawnSync('rpmlint', ['--version']).status === 0;
    skipIf(this, missingRpm(), installed ? undefined : 'rpmlint is not installed');
    const configuration = join(checkout, 'packaging/rpm/rpmlint.toml');
    const { stdout } = spawnSync('rpmlint', ['--config', configuration, ourPackage()], { encoding: 'utf8' });
    assert.match(stdout, /1 packages and 0 specfiles checked; 0 errors/, stdout);
  });
});
