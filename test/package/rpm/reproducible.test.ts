/** The same commit gives the same RPM package, wherever and whenever it is built. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkout } from '../../../src/lab/trees.ts';
import { skipIf } from '../../support/skip.ts';
import { missingRpm } from './packages.ts';

/** Builds the package of this checkout, which is seen at another path there. Returns the package's digest. */
function build(at: string, environment: Readonly<Record<string, string>>): string {
  // Not the version of other tests, which may use that package at the same time.
  const args = ['packaging/build.ts', '--format=rpm', '--compression=gzip', '--level=1', '--version=7.7.7'];
  const env = { ...process.env, SOURCE_DATE_EPOCH: '1700000000', ...environment };
  const script = 'mount --bind "$1" "$2"; cd "$2"; shift 2; exec scripts/node "$@"';
  const command = ['--mount', '--propagation', 'private', 'sh', '-ec', script, 'sh', checkout, at, ...args];
  const output = execFileSync('unshare', command, { encoding: 'utf8', env });
  const name = /\/([^/]*\.rpm): /.exec(output)?.[1];
  assert.ok(name !== undefined, output);
  const file = join(checkout, 'build', name);
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex');
  rmSync(file);
  return digest;
}

describe('the build of the RPM package', function () {
  this.timeout(240_000);

  it('gives the same bytes in another directory, at another time, with other surroundings', function () {
    skipIf(this, missingRpm());
    const elsewhere = mkdtempSync(join(tmpdir(), 'virtlockd-checkout-'));
    try {
      const here = build(checkout, {});
      const surroundings = { TZ: 'Pacific/Kiritimati', HOME: elsewhere, LANG: 'tr_TR.UTF-8', USER: 'somebody' };
      assert.equal(build(elsewhere, surroundings), here);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });

  it('says so where rpmbuild is missing, or the format is unknown', function () {
    skipIf(this, missingRpm());
    const run = (format: string): ReturnType<typeof spawnSync> =>
      spawnSync(process.execPath, [join(checkout, 'packaging/build.ts'), `--format=${format}`], {
        encoding: 'utf8',
        env: { PATH: '/nonexistent' },
      });
    const { status, stdout, stderr } = run('rpm');
    assert.deepEqual([status, stdout], [2, '']);
    assert.match(String(stderr), /^package: no package for \w+: rpmbuild is not installed \(Debian's package rpm\)\n$/);
    const unknown = run('apk');
    assert.equal(unknown.status, 2);
    assert.match(String(unknown.stderr), /there is no format 'apk'/);
  });
});
