/** `npm run release`: what it refuses. That it writes all takes minutes: CONTRIBUTING says how. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { checkout } from '../../src/lab/trees.ts';

describe('a release', function () {
  this.timeout(60_000);
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-release-'));
    for (const file of ['package.json', 'CHANGELOG.md', 'packaging/debian/changelog', 'scripts/release.ts']) {
      mkdirSync(dirname(join(directory, file)), { recursive: true });
      cpSync(join(checkout, file), join(directory, file));
    }
    git('init', '--quiet');
    commit();
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  const git = (...words: string[]): string => execFileSync('git', words, { cwd: directory, encoding: 'utf8' });
  function commit(): void {
    git('add', '--all');
    git('-c', 'user.name=a', '-c', 'user.email=a@virtlockd.example', 'commit', '--quiet', '--message', 'all');
  }
  function release(...words: string[]): { status: number | null; stdout: string; stderr: string } {
    const script = [join(directory, 'scripts/release.ts'), ...words];
    // Without npm: it gets no further than to the build.
    return spawnSync(process.execPath, script, { encoding: 'utf8', env: { PATH: '/usr/bin:/bin', CI: '' } });
  }
  const change = (file: string, from: RegExp, to: string): void => {
    writeFileSync(join(directory, file), readFileSync(join(directory, file), 'utf8').replace(from, to));
  };

  it('says what it does', () => {
    const { status, stdout } = release('--help');
    assert.equal(status, 0);
    for (const option of ['--level', '--output', '--allow-dirty', '--allow-unlisted'])
      assert.ok(stdout.includes(option));
  });

  it('is refused with changes that are not committed, unless that is allowed', () => {
    writeFileSync(join(directory, 'more'), '');
    const { status, stderr } = release();
    assert.equal(status, 2);
    assert.match(stderr, /^release: not all is committed .*\n\?\? more\n/);
    assert.notEqual(release('--allow-dirty').status, 2);
  });

  for (const [file, pattern] of [
    ['CHANGELOG.md', /^## \S+$/m],
    ['packaging/debian/changelog', /^virtlockd-node \([^)]*\)/],
  ] as const) {
    it(`is refused for a version that ${file} does not begin with, unless that is allowed`, () => {
      change(file, pattern, pattern.source.startsWith('^##') ? '## 0.0.1' : 'virtlockd-node (0.0.1)');
      commit();
      const { status, stderr } = release();
      assert.equal(status, 2);
      assert.ok(stderr.startsWith(`release: ${file} `), stderr);
      assert.notEqual(release('--allow-unlisted').status, 2);
    });
  }
});
