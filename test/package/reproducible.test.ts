/**
 * Two builds of one commit give the same bytes: one of this checkout, and one in another path, by another user, with another umask, time zone,
 * language and HOME, on one processor. So do those for the other architecture.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, lchownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { onPath } from '../../src/lab/requirements.ts';
import { checkout } from '../../src/lab/trees.ts';
import { skipIf } from '../support/skip.ts';
import { arch, packageFile } from './deb.ts';
import { debian12, missingRelease } from './trees.ts';

const run = (directory: string, program: string, ...words: string[]): string =>
  execFileSync(program, words, { cwd: directory, encoding: 'utf8' });

describe('two builds', function () {
  this.timeout(240_000);
  let copy: string;

  before(function () {
    skipIf(this, existsSync(join(checkout, '.git')) ? undefined : 'this is no git checkout', missingRelease(debian12));
    mkdirSync(join(checkout, 'build'), { recursive: true });
    copy = mkdtempSync(join(checkout, 'build/another '));
    run(copy, 'git', 'clone', '--quiet', '--no-checkout', checkout, '.');
    const files = run(checkout, 'git', 'ls-files', '-coz', '--exclude-standard').split('\0').filter(Boolean);
    // A directory lists its files in another order if they come in another one, on some file systems.
    for (const file of files.filter((name) => existsSync(join(checkout, name))).reverse()) {
      mkdirSync(dirname(join(copy, file)), { recursive: true });
      cpSync(join(checkout, file), join(copy, file), { verbatimSymlinks: true });
    }
    // Links to the same files, but for those that the build makes.
    run(copy, 'cp', '-al', join(checkout, 'node_modules'), '.');
    rmSync(join(copy, 'node_modules/fs-ext'), { recursive: true });
    run(copy, 'cp', '-r', join(checkout, 'node_modules/fs-ext'), 'node_modules');
    rmSync(join(copy, 'node_modules/fs-ext/build'), { recursive: true, force: true });
    runThere('node scripts/build-native.js', 'scripts/node scripts/build.ts');
  });

  after(() => {
    if ((copy as string | undefined) !== undefined) rmSync(copy, { recursive: true, force: true });
  });

  /** The words that make another user of root, who must be able to get at the copy. The clone itself stays root's. */
  function anotherUser(): string[] {
    const words = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    if (process.getuid?.() !== 0 || spawnSync('setpriv', [...words.slice(1), 'ls', copy]).status !== 0) return [];
    const files = run(copy, 'git', 'ls-files').split('\n').filter(Boolean);
    const ofFsExt = readdirSync(join(copy, 'node_modules/fs-ext'), { recursive: true, encoding: 'utf8' });
    const own = [
      'node_modules',
      'node_modules/fs-ext',
      ...ofFsExt.map((name) => `node_modules/fs-ext/${name}`),
      ...files,
    ];
    for (const file of new Set(own.flatMap((name) => [dirname(name), name])))
      lchownSync(join(copy, file), 65534, 65534);
    return words;
  }

  let words: readonly string[] | undefined;

  /** Runs commands of a shell in the copy. */
  function runThere(...commands: readonly string[]): void {
    words ??= [...anotherUser(), 'taskset', '0x1', 'sh', '-c'];
    const env = {
      PATH: process.env.PATH,
      HOME: '/nonexistent',
      TZ: 'Pacific/Apia',
      LC_ALL: 'C.UTF-8',
      USER: 'another',
    };
    const script = ['umask 077', ...commands].join(' && ');
    const { status, stdout, stderr } = spawnSync('env', [...words, script], { cwd: copy, env, encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
  }

  function assertSame(file: string, of: string): void {
    if (readFileSync(file).equals(readFileSync(join(copy, relative(checkout, file))))) return;
    const trees = [checkout, copy].map((root) => join(root, `build/package-${of}/tree`));
    const { stdout: differing } = spawnSync('diff', ['-rq', '--no-dereference', ...trees], { encoding: 'utf8' });
    assert.fail(`the packages differ: ${differing === '' ? 'in the order, modes or times of files' : differing}`);
  }

  it('give the same package, byte for byte', () => {
    runThere('scripts/node packaging/build.ts --compression=gzip --level=1');
    assertSame(packageFile(), arch);
  });

  it('give the same package for another architecture', function () {
    const other = arch === 'amd64' ? 'arm64' : 'amd64';
    const compiler = other === 'arm64' ? 'aarch64-linux-gnu-g++' : 'x86_64-linux-gnu-g++';
    skipIf(this, onPath(compiler) ? undefined : `${compiler} is not installed (package g++-${compiler.slice(0, -4)})`);
    const build = ['packaging/build.ts', `--arch=${other}`, '--compression=gzip', '--level=1'];
    const file = /^(.*\.deb): /m.exec(run(checkout, join(checkout, 'scripts/node'), ...build))?.[1];
    assert.ok(file !== undefined);
    // Its runtime, as the first build has got it: the other user has no place for npm's cache.
    for (const runtime of readdirSync(join(checkout, 'build')).filter((name) => name.startsWith('node-linux-'))) {
      run(copy, 'cp', '-al', join(checkout, 'build', runtime), 'build');
    }
    runThere(`scripts/node ${build.join(' ')}`);
    assertSame(file, other);
  });
});
